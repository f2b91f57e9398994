<?php
// A receiver of Recado's webhooks in PHP 8, without packages:
//   WEBHOOK_SECRET=whsec_… php -S 127.0.0.1:3000 receiver.php

declare(strict_types=1);

const TOLERANCE = 5 * 60; // seconds
const MAX_BODY = 1024 * 1024; // bytes; an event has at most 256 KiB

function signing_key(string $secret): string
{
    return str_starts_with($secret, 'whsec_') ? (string) base64_decode(substr($secret, 6), true) : $secret;
}

// Returns whether Recado signed these bytes within the last minutes. $body holds the bytes as they came: JSON that was parsed and
// written again may differ.
function is_signed(string $key, array $server, string $body): bool
{
    $id = $server['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $server['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if (preg_match('/\A[0-9]{1,12}\z/', $timestamp) !== 1 || abs(time() - (int) $timestamp) > TOLERANCE) {
        return false;
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    // There are two signatures for 24 hours after the secret was replaced.
    foreach (explode(' ', $server['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $signature) {
        if (hash_equals($expected, $signature)) {
            return true;
        }
    }
    return false;
}

// An event may come more than once. Keep its id under a unique index together with what the event changes.
function handle(array $event): void
{
    error_log("verified {$event['event']} {$event['id']}");
}

$key = signing_key((string) getenv('WEBHOOK_SECRET'));
if ($key === '') {
    error_log('WEBHOOK_SECRET is not set');
    http_response_code(500);
    return;
}
$body = (string) file_get_contents('php://input', false, null, 0, MAX_BODY + 1);
if (strlen($body) > MAX_BODY) {
    http_response_code(413);
} elseif (!is_signed($key, $_SERVER, $body)) {
    error_log('refused');
    http_response_code(401);
} else {
    handle(json_decode($body, true, 512, JSON_THROW_ON_ERROR));
    // Answer within 15 seconds; do slow work later.
    http_response_code(204);
}
