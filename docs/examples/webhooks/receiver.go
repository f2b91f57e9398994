// A receiver of Recado's webhooks in Go 1.18 or later, without packages:
//
//	WEBHOOK_SECRET=whsec_… PORT=3000 go run receiver.go
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	tolerance = 5 * time.Minute
	maxBody   = 1 << 20 // bytes; an event has at most 256 KiB
)

type event struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

func signingKey(secret string) ([]byte, error) {
	if secret == "" {
		return nil, fmt.Errorf("WEBHOOK_SECRET is not set")
	}
	if strings.HasPrefix(secret, "whsec_") {
		return base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	}
	return []byte(secret), nil
}

// isSigned returns whether Recado signed these bytes within the last minutes. The body holds the bytes as they came: JSON that
// was parsed and written again may differ.
func isSigned(key []byte, header http.Header, body []byte) bool {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return false
	}
	age := time.Since(time.Unix(seconds, 0))
	if age > tolerance || age < -tolerance {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	// There are two signatures for 24 hours after the secret was replaced.
	for _, signature := range strings.Split(header.Get("webhook-signature"), " ") {
		if hmac.Equal([]byte(signature), expected) {
			return true
		}
	}
	return false
}

// An event may come more than once. Keep its ID under a unique index together with what the event changes.
func handle(received event) {
	fmt.Printf("verified %s %s\n", received.Event, received.ID)
}

func main() {
	key, err := signingKey(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	port := os.Getenv("PORT")
	if port == "" {
		port = "3000"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening")
	log.Fatal(http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, maxBody))
		if err != nil {
			answer.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		var received event
		if !isSigned(key, request.Header, body) || json.Unmarshal(body, &received) != nil {
			fmt.Println("refused")
			answer.WriteHeader(http.StatusUnauthorized)
			return
		}
		handle(received)
		// Answer within 15 seconds; do slow work later.
		answer.WriteHeader(http.StatusNoContent)
	})))
}
