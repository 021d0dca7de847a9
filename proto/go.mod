module gitlab.com/ampora/ampora/proto

go 1.26.0
