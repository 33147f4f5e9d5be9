package main

import (
	"flag"
	"fmt"
	"time"
)

// summary is the last line of a repetition.
type summary struct {
	Summary  bool            `json:"summary"`
	Attempts int             `json:"attempts"`
	Outcomes map[Outcome]int `json:"outcomes"`
	// Answers of HTTP by their status.
	Statuses map[int]int `json:"statuses,omitempty"`
	Slowest  int64       `json:"slowestMs"`
	Millis   int64       `json:"ms"`
}

func (s *summary) add(r *result) {
	s.Attempts++
	s.Outcomes[r.Outcome]++
	if r.Status != 0 {
		s.Statuses[r.Status]++
	}
	s.Slowest = max(s.Slowest, r.Millis)
}

// repeat makes one attempt again and again. Attempts do not overlap: one that takes longer than the interval delays
// the next, so a dropped packet is tried as often as its timeout allows.
func repeat(args []string) error {
	f := flag.NewFlagSet("repeat", flag.ContinueOnError)
	every := f.Duration("every", 100*time.Millisecond, "")
	total := f.Duration("for", 10*time.Second, "")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() == 0 {
		return fmt.Errorf("what to repeat is missing")
	}
	try, known := attempts[f.Arg(0)]
	if !known {
		return fmt.Errorf("%q is no attempt", f.Arg(0))
	}
	if *every <= 0 || *total <= 0 {
		return fmt.Errorf("--every and --for are longer than nothing")
	}
	return repeatedly(func() (*result, error) { return try(f.Args()[1:]) }, *every, *total)
}

func repeatedly(try func() (*result, error), every, total time.Duration) error {
	started := time.Now()
	s := &summary{Summary: true, Outcomes: map[Outcome]int{}, Statuses: map[int]int{}}
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	type seen struct {
		outcome Outcome
		status  int
	}
	var last seen
	for time.Since(started) < total {
		r, err := try()
		if err != nil {
			return err
		}
		s.add(r)
		if now := (seen{r.Outcome, r.Status}); now != last {
			r.print()
			last = now
		}
		<-ticks.C
	}
	s.Millis = time.Since(started).Milliseconds()
	printJSON(s)
	return nil
}
