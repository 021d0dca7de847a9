module gitlab.com/ampora/ampora/loadtest

go 1.26.0
