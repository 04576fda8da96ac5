package main

// differing is a line that goes ('-') or comes ('+').
type differing struct {
	sign rune
	text string
}

// mostCompared bounds the lines of a text that is compared line by line; of a longer one all lines are others.
const mostCompared = 4000

// lineDifferences are the lines that a longest common subsequence leaves out, in the order of the texts.
func lineDifferences(before, after []string) (all []differing) {
	start := 0
	for start < len(before) && start < len(after) && before[start] == after[start] {
		start++
	}
	before, after = before[start:], after[start:]
	if len(before) > mostCompared || len(after) > mostCompared {
		return append(lines('-', before), lines('+', after)...)
	}
	// longest[i][j] is the length of the longest common subsequence of before[i:] and after[j:].
	longest := make([][]int, len(before)+1)
	for i := range longest {
		longest[i] = make([]int, len(after)+1)
	}
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			if before[i] == after[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(before) && j < len(after) {
		switch {
		case before[i] == after[j]:
			i, j = i+1, j+1
		case longest[i+1][j] >= longest[i][j+1]:
			all, i = append(all, differing{'-', before[i]}), i+1
		default:
			all, j = append(all, differing{'+', after[j]}), j+1
		}
	}
	return append(append(all, lines('-', before[i:])...), lines('+', after[j:])...)
}

func lines(sign rune, texts []string) (all []differing) {
	for _, text := range texts {
		all = append(all, differing{sign, text})
	}
	return all
}
