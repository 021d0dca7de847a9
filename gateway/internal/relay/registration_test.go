// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"testing"
	"time"
)

// The host's clock may be an hour off, and control's answer takes its time.
func TestTimeOfControl(t *testing.T) {
	host := time.Now().Add(time.Hour)
	now := host
	told := NewRegistration(func() time.Time { return now })
	if !told.Now().Equal(host) {
		t.Errorf("before control has told, it is %v", told.Now())
	}
	noon := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	told.Set(host, host.Add(2*time.Second), noon)
	now = host.Add(11 * time.Second)
	if want := noon.Add(10 * time.Second); !told.Now().Equal(want) {
		t.Errorf("it is %v, want %v", told.Now(), want)
	}
	if here := told.Here(noon); !here.Equal(host.Add(time.Second)) || !told.There(here).Equal(noon) {
		t.Errorf("noon is %v here and %v there", here, told.There(here))
	}
}
