module gitlab.com/ampora/ampora/shared

go 1.26.0
