package hsmtest

import "regexp"

// EveryFunction stands for all functions in [Fault.Function] and [Control.Calls].
const EveryFunction = "*"

var functionRow = regexp.MustCompile(`(?m)^\tX\([A-Z]+, (C_[A-Za-z]+),`)

// functionNumbers reads the numbers of the PKCS#11 functions from the table that the module is made of; EveryFunction is 0.
func functionNumbers() (map[string]int, error) {
	table, err := sources.ReadFile("module/functions.h")
	if err != nil {
		return nil, err
	}
	numbers := map[string]int{EveryFunction: 0}
	for i, row := range functionRow.FindAllSubmatch(table, -1) {
		numbers[string(row[1])] = i + 1
	}
	return numbers, nil
}
