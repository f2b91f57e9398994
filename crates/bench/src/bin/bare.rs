//! The baseline for Recado: a handler that parses the same JSON, returns the same answer, and stores nothing. It also receives
//! webhooks. It listens on a free port, which its first output line names, until it is killed.

use anyhow::Result;
use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use serde::Deserialize;

const ACCEPTED: &str = r#"{"success":true,"message":"Mensagem enfileirada para envio"}"#;

#[derive(Deserialize)]
struct Contact {
    to: String,
    name: String,
    phone: String,
    email: Option<String>,
    organization: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let router = axum::Router::new()
        .route("/v1/channels/{channel}/messages/contact", post(accept))
        .route("/hook", post(async |_: Bytes| StatusCode::NO_CONTENT));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn accept(Json(contact): Json<Contact>) -> impl IntoResponse {
    let Contact { to, name, phone, email, organization } = contact;
    // Comparable to reading the fields. Without it the compiler might leave them unread.
    std::hint::black_box((to, name, phone, email, organization));
    (StatusCode::ACCEPTED, [(CONTENT_TYPE, "application/json")], ACCEPTED)
}
