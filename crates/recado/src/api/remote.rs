//! A remote Recado, over HTTP with a key.

use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::http::header::AUTHORIZATION;
use axum::http::{self, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use recado_domain::api_key::SecretKey;
use recado_domain::error_chain::causes;
use recado_domain::text::without_mark;
use recado_gateway::control::{AskError, Reply};
use recado_providers::outbound::BaseUrl;

use crate::api::Request;
use crate::output::note;

/// The time limit for a whole call.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an answer.
const ANSWER_LIMIT: usize = 16 << 20;

pub struct Remote {
    /// Scheme, host, and an optional path before the API's.
    base: String,
    /// The URL, and the part of the key that may be shown.
    pub account: String,
    authorization: HeaderValue,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Remote {
    /// The Recado at `url`. The key comes from the environment or a file, because every user of the machine can read a
    /// command line.
    pub fn new(url: &str, key_file: Option<&Path>) -> Result<Self> {
        let base = BaseUrl::parse("--url", url)?;
        if !base.secure && !base.loopback {
            note(&format!("recado: warning: the key and the messages go to {} in clear; use https", base.host));
        }
        if base.text.ends_with("/v1") {
            note("recado: warning: --url ends in /v1, which recado adds by itself; leave it out");
        }
        let key = read_key(key_file)?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.reveal()))?;
        authorization.set_sensitive(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(base.tls()?).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let account = format!("{} {}", base.text, key.visible_prefix());
        Ok(Self { base: base.text, account, authorization, client })
    }

    pub async fn call(&self, request: Request) -> Result<Reply, AskError> {
        let request = self.request(request).map_err(|error| AskError::Refused(format!("{error:#}").into()))?;
        let answered = tokio::time::timeout(TIMEOUT, async {
            let response = self.client.request(request).await.map_err(|error| {
                let causes = causes(&error);
                if error.is_connect() {
                    AskError::NobodyThere(format!("{}: {causes}", self.base))
                } else {
                    AskError::NoAnswer(format!("{} gave no answer: {causes}", self.base).into())
                }
            })?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await;
            let body = body
                .map_err(|error| AskError::NoAnswer(format!("half an answer: {}", causes(&*error)).into()))?
                .to_bytes();
            Ok::<_, AskError>((parts, body))
        });
        let (parts, body) = answered
            .await
            .map_err(|_| AskError::NoAnswer(format!("no answer in {} s", TIMEOUT.as_secs()).into()))??;
        let text =
            |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers.iter().filter_map(text).collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    fn request(&self, request: Request) -> Result<http::Request<Full<Bytes>>> {
        let mut built = http::Request::builder()
            .method(request.method)
            .uri(format!("{}{}", self.base, request.path))
            .header(AUTHORIZATION, self.authorization.clone());
        for (name, value) in request.headers {
            built = built.header(name, value);
        }
        Ok(built.body(Full::from(request.body))?)
    }
}

fn read_key(file: Option<&Path>) -> Result<SecretKey> {
    let (place, text) = if let Some(path) = file {
        let shown = path.display().to_string();
        let mut line = String::new();
        let read = std::fs::File::open(path).and_then(|file| std::io::BufReader::new(file).read_line(&mut line));
        read.with_context(|| format!("cannot read {shown}"))?;
        (shown, line)
    } else {
        let key = std::env::var("RECADO_API_KEY");
        let key =
            key.map_err(|_| anyhow!("--url needs a key: set RECADO_API_KEY, or name a file by --api-key-file"))?;
        ("RECADO_API_KEY".to_owned(), key)
    };
    // Not shown, because the content may be another secret.
    SecretKey::parse(without_mark(&text).trim())
        .ok_or_else(|| anyhow!("{place} contains no API key, or one with a typing error"))
}
