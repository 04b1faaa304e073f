// Package guestpass recognises the guest of a page that Guestpass keeps in cookies. It needs the standard library only (Go
// 1.19 or later), for it asks Guestpass about each request, and so sees revocation at once, and a guest whose access token has
// expired by the refresh token.
//
//	http.Handle("/", guestpass.Soft(home))              // without a good token, a request is nobody's
//	http.Handle("/account/", guestpass.Strict(account)) // without one, it gets 401
//
// What follows finds the guest's sub in the request header X-Guestpass-Sub, as behind a gateway. The header isn't there for
// nobody, and never comes from the client. No cookie is set here: the page renews its tokens.
package guestpass

import (
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

var (
	server = setting("GUESTPASS_SERVER", "http://127.0.0.1:8080") // as this machine reaches it
	client = setting("GUESTPASS_CLIENT", "shop-web")
	cookie = setting("GUESTPASS_COOKIE", "__Host-guest") // on loopback over http: guest

	question = server + "/oauth/verify?mode=soft&client_id=" + url.QueryEscape(client)
	identity = regexp.MustCompile(`(?i)^x[^a-z0-9]guestpass[^a-z0-9]`)
	secrecy  = regexp.MustCompile(`(?i)private|no-store`)

	// Goes past HTTP_PROXY, and keeps connections, so that a question costs no handshake.
	asking = http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
)

// Soft lets everyone through.
func Soft(next http.Handler) http.Handler { return recognised(next, false) }

// Strict answers 401 to nobody.
func Strict(next http.Handler) http.Handler { return recognised(next, true) }

func recognised(next http.Handler, isStrict bool) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		for name := range request.Header {
			if identity.MatchString(name) {
				delete(request.Header, name)
			}
		}
		sub, err := guestOf(request)
		if err != nil {
			log.Printf("Guestpass can't be asked: %v", err)
		}
		switch {
		case sub != "":
			request.Header.Set("X-Guestpass-Sub", sub)
			next.ServeHTTP(&private{ResponseWriter: answer}, request)
		case !isStrict:
			next.ServeHTTP(answer, request)
		case err != nil:
			answer.Header().Set("Retry-After", "1")
			http.Error(answer, "Unavailable", http.StatusServiceUnavailable)
		default:
			answer.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(answer, "Unauthorized", http.StatusUnauthorized)
		}
	})
}

// guestOf returns the guest's sub, or "" for nobody.
func guestOf(request *http.Request) (string, error) {
	cookies := ours(request.Header["Cookie"])
	if cookies == "" {
		return "", nil
	}
	asked, err := http.NewRequestWithContext(request.Context(), http.MethodGet, question, nil)
	if err != nil {
		return "", err
	}
	asked.Header.Set("Cookie", cookies)
	if origins := request.Header["Origin"]; len(origins) > 0 {
		asked.Header["Origin"] = origins // of another site, it makes the request nobody's
	}
	said, err := asking.Do(asked)
	if err != nil {
		return "", err
	}
	defer said.Body.Close()
	subs := said.Header["X-Guestpass-Sub"] // one, which is empty for nobody
	if said.StatusCode != http.StatusOK || len(subs) != 1 {
		return "", fmt.Errorf("%s answered %s", question, said.Status)
	}
	return subs[0], nil
}

// ours picks Guestpass' two cookies out of the header as it came, all values of them: it chooses between none. The shop's others
// are none of its business, and it takes no more than 8 KiB.
func ours(fields []string) string {
	var found []string
	for _, pair := range strings.Split(strings.Join(fields, ";"), ";") {
		pair = strings.Trim(pair, " \t")
		if strings.HasPrefix(pair, cookie+"=") || strings.HasPrefix(pair, cookie+"-r=") {
			found = append(found, pair)
		}
	}
	return strings.Join(found, "; ")
}

// private marks an answer, so that nothing that the shop says lets a shared cache keep what is for one guest.
type private struct {
	http.ResponseWriter
	isMarked bool
}

func (answer *private) WriteHeader(status int) {
	header := answer.Header()
	if !secrecy.MatchString(header.Get("Cache-Control")) {
		header.Set("Cache-Control", "private")
	}
	answer.isMarked = status >= 200 // the others come before the answer
	answer.ResponseWriter.WriteHeader(status)
}

func (answer *private) Write(body []byte) (int, error) {
	if !answer.isMarked {
		answer.WriteHeader(http.StatusOK)
	}
	return answer.ResponseWriter.Write(body)
}

// Flush lets a handler stream.
func (answer *private) Flush() {
	if !answer.isMarked {
		answer.WriteHeader(http.StatusOK)
	}
	if flusher, ok := answer.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}

// Unwrap lets http.ResponseController (Go 1.20) find the rest.
func (answer *private) Unwrap() http.ResponseWriter { return answer.ResponseWriter }

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
