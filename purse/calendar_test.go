package purse_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/purse"
)

// Every four bytes that could be a day of some years, and every three that could be a time, judged as package time judges them.
func TestDatesAndTimesAreThoseOfTheCalendar(t *testing.T) {
	valid := 0
	for _, year := range [][2]byte{{0x00, 0x00}, {0x00, 0x01}, {0x19, 0x00}, {0x20, 0x00}, {0x20, 0x23}, {0x20, 0x24}, {0x99, 0x99}, {0x20, 0x2A}, {0xA0, 0x24}} {
		for rest := range 1 << 16 {
			d := purse.Date{year[0], year[1], byte(rest >> 8), byte(rest)}
			at, err := time.Parse("20060102", d.String())
			require.Equal(t, err == nil && at.Year() >= 1, d.Valid(), d.String())
			if d.Valid() {
				valid++
			}
		}
	}
	require.Equal(t, 365*4+366*2, valid) // 0001, 1900, 2023 and 9999; 2000 and 2024
	valid = 0
	for all := range 1 << 24 {
		if c := (purse.Time{byte(all >> 16), byte(all >> 8), byte(all)}); c.Valid() {
			valid++
			_, err := time.Parse("150405", c.String())
			require.NoError(t, err)
		}
	}
	require.Equal(t, 24*60*60, valid)
}
