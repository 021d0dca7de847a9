// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"regexp"
	"slices"
	"strings"
)

// Redacted stands in place of a secret, as in what Collectors report.
const Redacted = "[REDACTED]"

// secretWords are what the names of settings that hold secrets end in, without separators and in lower case. They are
// those of the components of the contrib distribution, whose own types hide most of them in effective configurations.
var secretWords = []string{
	"password", "passwd", "passphrase", "secret", "secretkey", "clientsecret", "secretaccesskey",
	"token", "apitoken", "accesstoken", "bearertoken", "sessiontoken", "authtoken",
	"apikey", "appkey", "accesskey", "licensekey", "ingestionkey", "instrumentationkey", "writekey", "sharedkey",
	"connectionstring", "credentials", "privatekey", "keypem", "sas", "sastoken",
}

// secretHeaders are the names of headers that hold secrets, in lower case and without separators.
var secretHeaders = []string{"authorization", "proxyauthorization", "cookie", "setcookie", "xsftoken", "xhoneycombteam", "lightstepaccesstoken", "uptracedsn", "signozaccesstoken", "signozingestionkey"}

// separators in names of settings and headers.
var separators = strings.NewReplacer("_", "", "-", "", ".", "", " ", "")

// names of settings that end like a secret and are none.
var harmless = []string{"tokenfile", "tokenurl", "bearertokenfile"}

// namesSecret reports whether a setting of that name holds a secret.
func namesSecret(key string) bool {
	if len(key) > longestPart {
		return false
	}
	name := strings.ToLower(separators.Replace(key))
	if slices.Contains(harmless, name) {
		return false
	}
	return slices.Contains(secretHeaders, name) ||
		slices.ContainsFunc(secretWords, func(word string) bool { return strings.HasSuffix(name, word) })
}

// holdsHeaders reports whether a setting holds headers, whose values Collectors hide all alike.
func holdsHeaders(key string) bool { return key == "headers" || strings.HasSuffix(key, "_headers") }

// schemes of the Authorization header: they are no secret.
var schemes = regexp.MustCompile(`(?i)^(basic|bearer|token|apikey|api-token|splunk|negotiate|digest)?$`)

// userInfo is the password in a URL.
var userInfo = regexp.MustCompile(`(://[^/@\s:]*):([^/@\s]+)@`)

// plainly reports whether a text under a secret name gives the secret away: what stays of it without its references is
// more than a scheme of authorization.
func plainly(text string) bool {
	if text == Redacted {
		return false
	}
	return !schemes.MatchString(strings.Trim(literal(text), " :,;"))
}

// withoutPassword returns a text with the passwords in its URLs hidden, unless they are references.
func withoutPassword(text string) string {
	if !strings.Contains(text, "://") || !strings.Contains(text, "@") {
		return text
	}
	return userInfo.ReplaceAllStringFunc(text, func(match string) string {
		parts := userInfo.FindStringSubmatch(match)
		if !plainly(parts[2]) {
			return match
		}
		return parts[1] + ":" + Redacted + "@"
	})
}
