//! The answers to Graph's calls.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::{Request, Response, Version};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::behaviour::{Answer, Behaviour};
use crate::network::{Network, lock};
use crate::server::{Broken, Connection};
use crate::{Attempt, GraphError, Number, account, callbacks, files};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers one call. An error ends the connection without an answer, or the stream over HTTP/2.
pub async fn answer(
    network: Arc<Network>,
    connection: Connection,
    request: Request<Incoming>,
) -> Result<Response<Body>, Broken> {
    let path = request.uri().path().to_owned();
    let method = request.method().as_str().to_owned();
    if method == "GET" && path.starts_with("/files/") {
        return Ok(files::serve(&network, &path, &request));
    }
    let mut parts = path.trim_start_matches('/').split('/');
    match (method.as_str(), parts.next().filter(|part| is_version(part)), parts.next(), parts.next(), parts.next()) {
        ("POST", Some(_), Some(id), Some("messages"), None) => send(network, connection, id, request).await,
        ("GET", Some(_), Some(id), None, None) => Ok(match show(&network, id, &request) {
            Ok(number) => json_answer(200, &number),
            Err(error) => error_answer(&error, 0),
        }),
        (method, Some(_), Some(id), None | Some("messages"), None) => {
            Ok(error_answer(&GraphError::no_such_object(method, id), 0))
        }
        _ => Ok(error_answer(&GraphError::unknown_path(&path), 0)),
    }
}

/// Whether the part has the form `v23.0`.
fn is_version(part: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    part.strip_prefix('v').and_then(|rest| rest.split_once('.')).is_some_and(|(a, b)| number(a) && number(b))
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// A file, or the fields of a number: the requested ones, and its id.
fn show(network: &Network, id: &str, request: &Request<Incoming>) -> Result<Value, GraphError> {
    if let Some(file) = files::show(network, id, token(request.headers()), request) {
        return file;
    }
    let number = network.authorised("GET", id, token(request.headers()))?;
    let query = request.uri().query().unwrap_or_default();
    let fields = query.split('&').find_map(|pair| pair.strip_prefix("fields=")).map(|list| list.replace("%2C", ","));
    let fields = fields.as_deref().unwrap_or("display_phone_number,verified_name,quality_rating");
    let mut shown = json!({});
    for field in fields.split(',') {
        shown[field] = match field {
            "id" => continue,
            "display_phone_number" => number.display_phone_number.as_str(),
            "verified_name" => number.verified_name.as_str(),
            "quality_rating" => "GREEN",
            "name_status" => "APPROVED",
            "code_verification_status" => "VERIFIED",
            _ => {
                let text = format!("(#100) Tried accessing nonexisting field ({field})");
                return Err(GraphError::new(400, 100, text));
            }
        }
        .into();
    }
    shown["id"] = number.id.into();
    Ok(shown)
}

/// A send, from its body to its answer. There is no await between the body and the record, so `behave` is called in the
/// order of the records.
async fn send(
    network: Arc<Network>,
    connection: Connection,
    number_id: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Broken> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    if let Some(answer) = mark_read(&network, number_id, token(&head.headers), &body) {
        return Ok(answer);
    }
    let mut attempt = read(&network, &connection, number_id, &body);
    if !head.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json")) {
        attempt.faults.push("Content-Type: must be application/json".to_owned());
    }
    attempt.http2 = head.version == Version::HTTP_2;
    let authorised = network.authorised("POST", number_id, token(&head.headers));
    let (number, behaviour) = match authorised {
        Err(error) => (None, Behaviour::refuse(error)),
        Ok(_) if !attempt.faults.is_empty() => {
            let error = GraphError::new(400, 131_009, "(#131009) Parameter value is not valid");
            (None, Behaviour::refuse(error.details(attempt.faults.join("; "))))
        }
        Ok(number) => (Some(number), lock(&network.behave)(&attempt)),
    };
    let record = record(&network, &mut attempt, behaviour.accepts);
    // Dropped with this call, whether it was answered or aborted: then the callbacks begin.
    let mut answering = None;
    if let (true, Some(number)) = (behaviour.accepts, number) {
        answering = call_back(&network, number, &attempt, &behaviour).await;
    }
    sleep(behaviour.after).await;
    let answer = match behaviour.answer {
        None => json_answer(200, &accepted_answer(&attempt)),
        Some(answer) => other(answer, &connection, record)?,
    };
    lock(&network.attempts)[record].answered = Some(answer.status().as_u16());
    drop(answering);
    Ok(answer)
}

/// The answer to a call that marks a message as read; `None`: the call sends a message.
fn mark_read(network: &Network, number_id: &str, token: Option<&str>, body: &[u8]) -> Option<Response<Body>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let status = body.get("status")?;
    let known = ["messaging_product", "status", "message_id"];
    let valid = body["messaging_product"] == "whatsapp"
        && status == "read"
        && body["message_id"].as_str().is_some_and(|id| id.starts_with("wamid."))
        && body.as_object().is_some_and(|body| body.keys().all(|key| known.contains(&&**key)));
    Some(match network.authorised("POST", number_id, token) {
        Err(error) => error_answer(&error, 0),
        Ok(_) if !valid => error_answer(&GraphError::new(400, 100, "(#100) Invalid parameter"), 0),
        Ok(_) => {
            let id = body["message_id"].as_str().unwrap_or_default();
            lock(&network.reads).push((number_id.to_owned(), id.to_owned()));
            json_answer(200, &json!({ "success": true }))
        }
    })
}

/// The fields of a send's body, and its errors.
fn read(network: &Network, connection: &Connection, number_id: &str, body: &[u8]) -> Attempt {
    let body: Value = serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into());
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    Attempt {
        number_id: number_id.to_owned(),
        to: text("to").or_else(|| text("recipient")).unwrap_or_default(),
        opaque_id: text("biz_opaque_callback_data"),
        faults: network.schemas.faults(&body),
        wamid: None,
        answered: None,
        at: Instant::now(),
        http2: false,
        connection: connection.number,
        body: Arc::new(body),
    }
}

/// Records an attempt, with the id of a message if it is accepted. Returns the index of the record.
fn record(network: &Network, attempt: &mut Attempt, accepted: bool) -> usize {
    let mut attempts = lock(&network.attempts);
    let place = attempts.len();
    if accepted {
        // About as long as Meta's, with a `=` like theirs. It is never repeated, even if a message comes twice.
        attempt.wamid = Some(format!("wamid.HBgN{:032X}FQIAERgSAA==", network.id + place as u128));
        network.accepted.fetch_add(1, Relaxed);
    }
    attempts.push(attempt.clone());
    place
}

/// Starts the callbacks of an accepted message: now if they are to overtake the answer, otherwise when the returned value is
/// dropped.
async fn call_back(
    network: &Arc<Network>,
    number: Number,
    attempt: &Attempt,
    behaviour: &Behaviour,
) -> Option<oneshot::Sender<()>> {
    let callbacks = behaviour.callbacks.clone();
    network.callbacks_waiting.fetch_add(callbacks::count(&callbacks), Relaxed);
    let posted = callbacks::post_all(network.clone(), number, attempt.clone(), callbacks);
    if behaviour.callbacks_first {
        // In its own task, because an aborted call must not stop the callbacks.
        let _ = tokio::spawn(posted).await;
        return None;
    }
    let (answering, answered) = oneshot::channel();
    tokio::spawn(async move {
        let _ = answered.await;
        posted.await;
    });
    Some(answering)
}

/// Graph's answer for an accepted message.
fn accepted_answer(attempt: &Attempt) -> Value {
    let mut contact = json!({ "input": attempt.to });
    contact[if attempt.is_to_user_id() { "user_id" } else { "wa_id" }] = account(&attempt.to).into();
    json!({
        "messaging_product": "whatsapp",
        "contacts": [contact],
        "messages": [{ "id": attempt.wamid }],
    })
}

/// Any other answer.
fn other(answer: Answer, connection: &Connection, record: usize) -> Result<Response<Body>, Broken> {
    match answer {
        Answer::Error(error) => Ok(error_answer(&error, record)),
        Answer::Lost => Err(Broken),
        Answer::Reset => {
            connection.reset.cancel();
            Err(Broken)
        }
        Answer::Foreign { status, content_type, body } => Ok(whole(status, content_type, body)),
        Answer::Endless { pause } => Ok(of(200, "application/json", endless(pause))),
    }
}

fn error_answer(error: &GraphError, record: usize) -> Response<Body> {
    json_answer(error.status, &error.envelope(&format!("AXsgnV2Cm3ZMGF3_{record:07}")))
}

fn json_answer(status: u16, body: &Value) -> Response<Body> {
    whole(status, "application/json; charset=UTF-8", body.to_string())
}

fn whole(status: u16, content_type: &'static str, body: String) -> Response<Body> {
    of(status, content_type, Full::from(body).boxed_unsync())
}

fn of(status: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let answer = Response::builder().status(status).header(CONTENT_TYPE, content_type).body(body);
    answer.expect("a status of three digits")
}

/// Endless spaces: white space before a JSON value that never comes.
fn endless(pause: Duration) -> Body {
    let spaces = Bytes::from(vec![b' '; 64 << 10]);
    let frames = stream::unfold(spaces, move |spaces| async move {
        // Also without a pause, so that other tasks can run.
        sleep(pause).await;
        Some((Ok(Frame::data(spaces.clone())), spaces))
    });
    StreamBody::new(frames).boxed_unsync()
}
