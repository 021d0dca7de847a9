// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// everybody is what every user needs beside its keys. INFO is for the replication history,
// TIME for expiry.
var everybody = []string{"resetkeys", "resetchannels", "clearselectors", "-@all", "+ping", "+info", "+time", "+multi", "+exec"}

// GatewayRules are the access rules of the Redis user of one gateway, as arguments of ACL
// SETUSER beside "on" and the password. The gateway may append to all uplinks and read
// none, read its own downlinks, write its own marks, read and write what gateways know of
// polling agents, and read their mail. Nothing else: no key of another gateway, no other
// command.
//
// Redis knows no rule that lets a user append and forbids it to let XADD trim as well
// (MAXLEN). A gateway that is compromised can thereby make the bus lose uplinks, never
// silently.
//
// "" as prefix means [DefaultPrefix]; an error says what is wrong with it.
func GatewayRules(prefix string, gateway identity.GatewayID) ([]string, error) {
	n, err := newNames(prefix)
	if err != nil {
		return nil, err
	}
	down := n.downlink(gateway).key
	return append(everybody[:len(everybody):len(everybody)],
		"(+xadd +xlen +memory|usage +publish "+"%W~"+n.uplinks()+":* &"+n.uplinks()+")",
		"(+xrange +xtrim +xinfo|stream +xadd +del +pexpire +subscribe ~"+down+" &"+down+")",
		"(+set +mget ~"+n.shelf(bus.Marks(gateway))+"* ~"+n.shelf(bus.Polls)+"*)",
		"(+mget %R~"+n.shelf(bus.Mail)+"*)",
	), nil
}

// ControlRules are the access rules of the Redis user of the control plane, likewise. It
// may read and trim all uplinks, append to all downlinks, read what gateways wrote to
// registers, and write mail.
func ControlRules(prefix string) ([]string, error) {
	n, err := newNames(prefix)
	if err != nil {
		return nil, err
	}
	return append(everybody[:len(everybody):len(everybody)],
		"(+xrange +xtrim +xinfo|stream +xadd +del +subscribe "+"~"+n.uplinks()+":* &"+n.uplinks()+")",
		"(+xadd +xlen +memory|usage +xrange +xdel +pexpire +publish ~"+n.prefix+":down:* &"+n.prefix+":down:*)",
		"(+mget %R~"+n.prefix+":marks:* %R~"+n.shelf(bus.Polls)+"*)",
		"(+set +mget ~"+n.shelf(bus.Mail)+"*)",
	), nil
}
