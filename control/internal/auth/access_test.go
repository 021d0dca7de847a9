// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// Every procedure of the API says who may call it, and what the audit log calls it if it does more than read.
func TestEveryProcedureDeclaresItsAccess(t *testing.T) {
	procedures := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("ampora.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				procedures++
				checkDeclaration(t, methods.Get(j))
			}
		}
		return true
	})
	if procedures == 0 {
		t.Fatal("the registry has no procedure")
	}
}

func checkDeclaration(t *testing.T, method protoreflect.MethodDescriptor) {
	access, declared := Declared(method)
	if !declared {
		t.Errorf("%s declares no role", method.FullName())
		return
	}
	level := method.Options().(*descriptorpb.MethodOptions).GetIdempotencyLevel()
	// What reads, and takes what must not stand in the URL of a GET, says that it is idempotent.
	reads := level == descriptorpb.MethodOptions_NO_SIDE_EFFECTS || level == descriptorpb.MethodOptions_IDEMPOTENT || method.IsStreamingServer()
	switch {
	case !reads && access.GetAudit() == "":
		t.Errorf("%s has side effects and no audit kind", method.FullName())
	case reads && access.GetAudit() != "":
		// It could come as a GET, which browsers and proxies feel free to repeat.
		t.Errorf("%s is audited and declared to have no side effects", method.FullName())
	}
}

func TestProcedureWithoutAccessIsRefused(t *testing.T) {
	admin := fleet.Principal{ID: "a", Role: fleet.RoleAdmin}
	bare := protoreflect.MethodDescriptor(undeclared{method(t, "AgentService", "ListAgents"), &descriptorpb.MethodOptions{}})
	unspecified := &descriptorpb.MethodOptions{}
	proto.SetExtension(unspecified, amporav1.E_Access, &amporav1.Access{Audit: "x"})
	for name, schema := range map[string]any{
		"no descriptor": nil,
		"no option":     bare,
		"no role":       undeclared{method(t, "AgentService", "ListAgents"), unspecified},
	} {
		err := permit(admin, connect.Spec{Procedure: "/x.Y/Z", Schema: schema})
		if err == nil || err.Reason != ReasonProcedureWithoutAccess {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// undeclared is a method with other options than its file gives it.
type undeclared struct {
	protoreflect.MethodDescriptor
	options *descriptorpb.MethodOptions
}

func (u undeclared) Options() protoreflect.ProtoMessage { return u.options }

func method(t *testing.T, service, name string) protoreflect.MethodDescriptor {
	t.Helper()
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("ampora.v1." + service + "." + name))
	if err != nil {
		t.Fatal(err)
	}
	return descriptor.(protoreflect.MethodDescriptor)
}

func TestActions(t *testing.T) {
	for procedure, want := range map[[2]string]string{
		{"GroupService", "CreateGroup"}: "group.create",
		{"AgentService", "ListAgents"}:  "ampora.v1.AgentService/ListAgents",
	} {
		spec := connect.Spec{Procedure: "/ampora.v1." + procedure[0] + "/" + procedure[1], Schema: method(t, procedure[0], procedure[1])}
		if got := actionOf(spec); got != want {
			t.Errorf("%v: %q, want %q", procedure, got, want)
		}
	}
}

func TestByOutsideACallPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("By made up a principal")
		}
	}()
	By(t.Context())
}
