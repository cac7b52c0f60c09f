module example.com/bad-config

go 1.25.0
