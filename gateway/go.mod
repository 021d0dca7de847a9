module gitlab.com/ampora/ampora/gateway

go 1.26.0

require (
	gitlab.com/ampora/ampora/proto v0.0.0
	gitlab.com/ampora/ampora/shared v0.0.0
)

require (
	connectrpc.com/connect/v2 v2.0.2 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/gobwas/httphead v0.1.0 // indirect
	github.com/gobwas/pool v0.2.1 // indirect
	github.com/gobwas/ws v1.4.0 // indirect
	github.com/open-telemetry/opamp-go v0.24.0 // indirect
	github.com/smallstep/pkcs7 v0.2.1 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel v1.47.0 // indirect
	go.opentelemetry.io/otel/log v1.47.0 // indirect
	go.opentelemetry.io/otel/metric v1.47.0 // indirect
	go.opentelemetry.io/otel/trace v1.47.0 // indirect
	golang.org/x/crypto v0.33.0 // indirect
	golang.org/x/sync v0.19.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	pgregory.net/rapid v1.2.0 // indirect
)

replace (
	gitlab.com/ampora/ampora/proto => ../proto
	gitlab.com/ampora/ampora/shared => ../shared
)
