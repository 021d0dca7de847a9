module gitlab.com/ampora/ampora/gateway

go 1.26.0
