// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/shared/bus/postgres"
	"gitlab.com/ampora/ampora/shared/bus/redis"
	"gitlab.com/ampora/ampora/shared/identity"
)

// busCommands let a gateway, or the control plane, into the bus with no more than its part.
func busCommands(environ []string) *cobra.Command {
	group := &cobra.Command{Use: "bus", Short: "Let gateways and the control plane into the bus."}
	var gateway, password string
	user := &cobra.Command{
		Use: "redis-user", Short: "Print a line for the ACL file of Redis: a user who may do its part and no more.", Args: cobra.NoArgs,
		Long: "Prints a line for the ACL file of Redis (or, without its first word, for ACL SETUSER): the user\n" +
			"ampora-control, or with --gateway the user ampora-gateway-NAME. The password is the content of a file, and\n" +
			"appears in the line as its SHA-256 only.",
		RunE: func(c *cobra.Command, _ []string) error { return redisUser(c, environ, gateway, password) },
	}
	user.Flags().StringVar(&gateway, "gateway", "", "name of the gateway; without it the line is for the control plane")
	user.Flags().StringVar(&password, "password-file", "", "file with the user's password (required)")
	_ = user.MarkFlagRequired("password-file") // the flag exists

	var admitted, login string
	admit := &cobra.Command{
		Use: "admit", Short: "Let a login of PostgreSQL act as a gateway, for a bus that is in the database.", Args: cobra.NoArgs,
		Long: "Lets a login, which exists and has no other rights, act as a gateway on the bus in the database. Run it as\n" +
			"whoever migrates.",
		RunE: func(c *cobra.Command, _ []string) error { return admitLogin(c, environ, admitted, login) },
	}
	admit.Flags().StringVar(&admitted, "gateway", "", "name of the gateway (required)")
	admit.Flags().StringVar(&login, "login", "", "the login's name in PostgreSQL (required)")
	_ = admit.MarkFlagRequired("gateway") // the flags exist
	_ = admit.MarkFlagRequired("login")
	group.AddCommand(user, admit)
	return group
}

// minPassword is what a password must have, in bytes: Redis keeps it as a fast hash.
const minPassword = 16

func redisUser(c *cobra.Command, environ []string, gateway, passwordFile string) error {
	config, err := read(environ)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(passwordFile) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("--password-file: %w", err)
	}
	secret := bytes.TrimRight(text, "\r\n")
	if len(secret) < minPassword || bytes.ContainsAny(secret, "\r\n") {
		return fmt.Errorf("--password-file must hold one line of at least %d bytes; make one with: openssl rand -hex 24", minPassword)
	}
	name, rules, err := redisRules(config.Bus.Prefix, gateway)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(secret)
	fmt.Fprintln(c.OutOrStdout(), "user", name, "on", "#"+hex.EncodeToString(sum[:]), strings.Join(rules, " "))
	return nil
}

// redisRules names the user of a gateway, or of the control plane if gateway is empty, and says what it may do.
func redisRules(prefix, gateway string) (name string, rules []string, err error) {
	if gateway == "" {
		rules, err = redis.ControlRules(prefix)
		name = "ampora-control"
	} else {
		id, invalid := identity.ParseGatewayID(gateway)
		if invalid != nil {
			return "", nil, fmt.Errorf("--gateway: %w", invalid)
		}
		rules, err = redis.GatewayRules(prefix, id)
		name = "ampora-gateway-" + gateway
	}
	if err != nil {
		return "", nil, fmt.Errorf("AMPORA_BUS_PREFIX: %w", err)
	}
	return name, rules, nil
}

func admitLogin(c *cobra.Command, environ []string, gateway, login string) error {
	config, err := load(environ)
	if err != nil {
		return err
	}
	id, err := identity.ParseGatewayID(gateway)
	if err != nil {
		return fmt.Errorf("--gateway: %w", err)
	}
	url := config.Control.Database.URL.Reveal()
	if strings.HasPrefix(url, "sqlite:") {
		return errors.New("AMPORA_DATABASE_URL: a bus in the database needs PostgreSQL")
	}
	if err := postgres.Admit(c.Context(), url, login, id); err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	fmt.Fprintf(c.OutOrStdout(), "%s is the gateway %s\n", login, id)
	return nil
}
