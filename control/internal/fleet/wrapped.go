// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

// WrappedColumn is a column whose values are wrapped under the master key of the installation.
type WrappedColumn struct {
	// Purpose is what is wrapped there: part of the seal, and the name that operators read.
	Purpose string
	// Table and Column are where it stands: part of the seal too, except that of WrappedKeyCheck.
	Table, Column string
	// Key is the column that names a record among those of its tenant.
	Key string
	// Tenant is the column with the tenant whose record it is. Without it there is one record, Only, of the installation.
	Tenant, Only string
}

// Scope is the condition that singles out the records of a tenant, or of the installation if it is empty: a column and
// what it must be.
func (c WrappedColumn) Scope(tenant TenantID) (column, value string) {
	if c.Tenant == "" {
		return c.Key, c.Only
	}
	return c.Tenant, string(tenant)
}

// What is wrapped under the master key.
var (
	WrappedDataKey      = WrappedColumn{Purpose: "tenant-data-key", Table: "tenants", Column: "wrapped_data_key", Tenant: "id", Key: "id"}
	WrappedCAKey        = WrappedColumn{Purpose: "ca-key", Table: "signing_keys", Column: "sealed_key", Tenant: "tenant_id", Key: "id"}
	WrappedOCSPKey      = WrappedColumn{Purpose: "ocsp-key", Table: "ocsp_responders", Column: "sealed_key", Tenant: "tenant_id", Key: "key_id"}
	WrappedDownlinkKey  = setting("downlink-key", "downlink_key")
	WrappedUplinkSecret = setting("uplink-secret", "uplink_secret")
	// WrappedControlCertificate is there where authorities are in a key service.
	WrappedControlCertificate = setting("control-certificate", "control_certificate")
	// WrappedKeyCheck is what tells a process at its start whether it has the right master key. Its seal names no place.
	WrappedKeyCheck = setting("key-check", "master_key_check")
)

// WrappedColumns are all of them. A rotation of the master key goes through them in this order: the value that says
// which key the database is under changes last.
var WrappedColumns = []WrappedColumn{WrappedDataKey, WrappedCAKey, WrappedOCSPKey, WrappedDownlinkKey, WrappedUplinkSecret, WrappedControlCertificate, WrappedKeyCheck}

func setting(purpose, name string) WrappedColumn {
	return WrappedColumn{Purpose: purpose, Table: "settings", Column: "value", Key: "name", Only: name}
}

// Envelope is a wrapped value as it is stored.
type Envelope struct {
	Tenant TenantID // empty for the installation's
	Key    string   // names the record among those of the tenant
	Value  []byte
}
