module gitlab.com/ampora/ampora/control

go 1.26.0
