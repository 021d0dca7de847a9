module gitlab.com/ampora/ampora/shared

go 1.26.0

require (
	github.com/google/uuid v1.6.0 // indirect
	pgregory.net/rapid v1.2.0 // indirect
)
