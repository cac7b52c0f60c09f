// Command demo prints a sum.
package main

import "fmt"

func main() {   fmt.Println(add(1, 2))
}

func add(a, b int) int {
return a + b }
