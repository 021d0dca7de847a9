// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"slices"
	"strings"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons of a refusal.
const (
	// ReasonRoleTooLow: the procedure needs a stronger role.
	ReasonRoleTooLow = "ROLE_TOO_LOW"
	// ReasonProcedureNotAllowed: the token is limited to other procedures.
	ReasonProcedureNotAllowed = "PROCEDURE_NOT_ALLOWED"
	// ReasonProcedureWithoutAccess: the procedure does not say who may call it. A mistake of ours.
	ReasonProcedureWithoutAccess = "PROCEDURE_WITHOUT_ACCESS"
)

// Declared returns the access a procedure declares, and whether it says at all for whom it is. The schema is what generated
// code puts into its Spec: a protoreflect.MethodDescriptor.
func Declared(schema any) (*amporav1.Access, bool) {
	method, ok := schema.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, false
	}
	access, ok := proto.GetExtension(method.Options(), amporav1.E_Access).(*amporav1.Access)
	return access, ok && (RoleFrom(access.GetRole()) != fleet.RoleNone) != access.GetPoolSecret()
}

// RoleFrom is a role of the API in the words of the fleet; one that is not known is none.
func RoleFrom(role amporav1.Role) fleet.Role {
	switch role {
	case amporav1.Role_ROLE_VIEWER:
		return fleet.RoleViewer
	case amporav1.Role_ROLE_OPERATOR:
		return fleet.RoleOperator
	case amporav1.Role_ROLE_ADMIN:
		return fleet.RoleAdmin
	default:
		return fleet.RoleNone
	}
}

// permit returns nil if the principal may call the procedure.
func permit(p fleet.Principal, spec connect.Spec) *fault.Error {
	access, declared := Declared(spec.Schema)
	switch {
	case !declared:
		return fault.New(fault.PermissionDenied, ReasonProcedureWithoutAccess, "the procedure does not say who may call it")
	case access.GetPoolSecret() != (p.Kind == fleet.PrincipalTokenPool):
		return fault.New(fault.PermissionDenied, ReasonProcedureNotAllowed, "the procedure is not for this kind of caller")
	case p.Role < RoleFrom(access.GetRole()):
		return tooLow(p, RoleFrom(access.GetRole()))
	case len(p.Procedures) > 0 && !slices.Contains(p.Procedures, spec.Procedure):
		return fault.New(fault.PermissionDenied, ReasonProcedureNotAllowed, "the token is limited to other procedures")
	}
	return nil
}

// Needs returns nil if the principal has the role: for the part of a procedure that needs a stronger one than the procedure.
func Needs(p fleet.Principal, role fleet.Role) error {
	if p.Role < role {
		return tooLow(p, role)
	}
	return nil
}

func tooLow(p fleet.Principal, needed fleet.Role) *fault.Error {
	return fault.New(fault.PermissionDenied, ReasonRoleTooLow, "this needs the role %s", needed).
		With("role", p.Role.String()).With("needed", needed.String())
}

// actionOf is what the audit log calls a procedure: its audit kind, or its name if it only reads.
func actionOf(spec connect.Spec) string {
	if access, _ := Declared(spec.Schema); access.GetAudit() != "" {
		return access.GetAudit()
	}
	return strings.TrimPrefix(spec.Procedure, "/")
}
