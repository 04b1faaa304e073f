// Says which headers of a request claim to be from Guestpass.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"

	"shop/guestpass"
)

func claims(answer http.ResponseWriter, request *http.Request) {
	found := map[string]string{}
	for name, values := range request.Header {
		if name = strings.ToLower(name); strings.Contains(name, "guestpass") {
			found[name] = strings.Join(values, ", ")
		}
	}
	answer.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(answer).Encode(found); err != nil {
		log.Print(err)
	}
}

func public(answer http.ResponseWriter, request *http.Request) {
	answer.Header().Set("Cache-Control", "public, max-age=60")
	claims(answer, request)
}

func main() {
	http.Handle("/", guestpass.Soft(http.HandlerFunc(claims)))
	http.Handle("/account", guestpass.Strict(http.HandlerFunc(claims)))
	http.Handle("/public", guestpass.Soft(http.HandlerFunc(public)))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
