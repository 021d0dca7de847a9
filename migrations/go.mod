module gitlab.com/ampora/ampora/migrations

go 1.26.0
