package purse

import (
	"time"
)

// Date is a calendar date YYYYMMDD in four BCD bytes. A value from ParseDate or DateTime is a date of the calendar.
type Date [4]byte

// Time is a time of day HHMMSS in three BCD bytes.
type Time [3]byte

const (
	dateLayout = "20060102"
	timeLayout = "150405"
)

// ParseDate reads the eight digits YYYYMMDD of the field date; 30 February and year 0000 are refused. Spaces are allowed.
func ParseDate(text string) (d Date, err error) {
	b, err := ParseHex("date", text, len(d))
	if err != nil {
		return d, err
	}
	if d = Date(b); !d.Valid() {
		return Date{}, fieldErrorf("date", "%v is not a calendar date YYYYMMDD", d)
	}
	return d, nil
}

// ParseTime reads the six digits HHMMSS of the field time, 000000 to 235959. Spaces are allowed.
func ParseTime(text string) (t Time, err error) {
	b, err := ParseHex("time", text, len(t))
	if err != nil {
		return t, err
	}
	if t = Time(b); !t.Valid() {
		return Time{}, fieldErrorf("time", "%v is not a time of day HHMMSS", t)
	}
	return t, nil
}

// DateTime is the date and time of t, in t's own location: the caller converts to the key set's time zone first.
func DateTime(t time.Time) (Date, Time, error) {
	if year := t.Year(); year < 1 || year > 9999 {
		return Date{}, Time{}, fieldErrorf("date", "year %d does not fit in YYYY", year)
	}
	return Date(mustHex(t.Format(dateLayout))), Time(mustHex(t.Format(timeLayout))), nil
}

// Valid reports whether d is a date of the calendar, year 0001 or later.
func (d Date) Valid() bool {
	century, years, month, day := bcd(d[0]), bcd(d[1]), bcd(d[2]), bcd(d[3])
	if century < 0 || years < 0 || century+years == 0 || month < 1 || month > 12 || day < 1 {
		return false
	}
	last := time.Date(100*century+years, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC) // the day before the next month's first
	return day <= last.Day()
}

// bcd is the number of two binary coded digits, -1 of what is none.
func bcd(b byte) int {
	if b>>4 > 9 || b&0x0F > 9 {
		return -1
	}
	return int(b>>4)*10 + int(b&0x0F)
}

// String writes YYYYMMDD.
func (d Date) String() string { return upperHex(d[:]) }

// Valid reports whether t is a time of day.
func (t Time) Valid() bool {
	hour, minute, second := bcd(t[0]), bcd(t[1]), bcd(t[2])
	return hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second < 60
}

// String writes HHMMSS.
func (t Time) String() string { return upperHex(t[:]) }

// appendMoment appends DATE(4) TIME(3), as every layout that has one has the other.
func appendMoment(b []byte, d Date, t Time) []byte { return append(append(b, d[:]...), t[:]...) }

// momentOf reads DATE(4) TIME(3) and refuses what is neither.
func momentOf(b []byte) (d Date, t Time, err error) {
	d, t = Date(b[:4]), Time(b[4:7])
	if !d.Valid() {
		return d, t, fieldErrorf("date", "%v is not a calendar date YYYYMMDD", d)
	}
	if !t.Valid() {
		return d, t, fieldErrorf("time", "%v is not a time of day HHMMSS", t)
	}
	return d, t, nil
}
