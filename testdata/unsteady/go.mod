module example.com/unsteady

go 1.25
