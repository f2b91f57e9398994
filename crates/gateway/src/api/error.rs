//! The error type of the API. Every answer that is not a success is created here, in the API's language and form.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use recado_domain::api_key::Scopes;
use recado_domain::error::AppError;
use recado_domain::field_errors::{FieldError, FieldErrors};
use recado_store::StoreError;
use serde::Serialize;

use super::json::JSON;

/// The reason for which a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    Validation(FieldErrors),
    /// The channel does not offer what these fields request.
    NotSupported(FieldErrors),
    Unauthorized,
    Forbidden,
    /// The key lacks these scopes.
    MissingScopes(Scopes),
    ChannelNotFound,
    MessageNotFound,
    CardNotFound,
    ApiKeyNotFound,
    InstitutionNotFound,
    EventNotFound,
    WebhookNotFound,
    DeliveryNotFound,
    ConversationNotFound,
    ContactNotFound,
    MediaNotFound,
    NotFound,
    MethodNotAllowed,
    ChannelNotConnected,
    ChannelExists,
    ChannelReserved,
    TooManyKeys,
    TooManyWebhooks,
    WebhookInactive,
    MessageNotCancellable,
    ConversationClosed,
    WindowClosed,
    ConversationChanged,
    /// With the id of the contact that has the number.
    ContactExists(String),
    /// With the cursor of the oldest place in the stream.
    CursorExpired(String),
    /// The network has lost a received file.
    MediaExpired,
    /// A received file has more bytes than may be stored.
    MediaTooLarge,
    /// A received file is at an address that this server does not call.
    MediaRefused,
    /// The network does not deliver a received file now.
    MediaUnavailable,
    MediaStoreFull,
    TooManyReaders,
    /// With the number of bytes that there are.
    RangeNotSatisfiable(u64),
    PayloadTooLarge,
    UnsupportedMediaType,
    UnsupportedContentEncoding,
    IdempotencyKeyReused,
    /// The number of seconds until another call may be made.
    RateLimited(u64),
    NotImplemented,
    WhatsAppWebMissing,
    SecretKeyMissing,
    /// The same, for the secrets of webhooks.
    WebhookKeyMissing,
    QueueFull,
    UpgradeInProgress,
    /// A person was erased, except on the sandbox's phone and in the contact book.
    SandboxNotErased,
    Unavailable,
    Internal,
    /// The client is too slow to get an answer: the connection is closed.
    TooSlow,
}

/// The seconds after which a caller may retry while the store or a full queue prevents the call.
const TRY_AGAIN: u64 = 5;

const WHATSAPP_WEB_MISSING: &str = "Este servidor foi compilado sem WhatsApp Web: compile com --features whatsapp-web, \
     ou inicie com ./dev run --whatsapp-web.";

/// The error of a kind or an option that the channel does not offer.
const NOT_SUPPORTED: &str = "Este canal nao oferece este recurso.";

impl ApiError {
    /// The channel does not offer what these fields request.
    pub fn not_supported<'a>(fields: impl IntoIterator<Item = &'a str>) -> Self {
        let mut errors = FieldErrors::default();
        fields.into_iter().for_each(|field| errors.push(field.to_owned(), NOT_SUPPORTED));
        Self::NotSupported(errors)
    }

    /// An error of a single field.
    pub fn field(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Validation(FieldErrors::one(field, message))
    }

    /// Status, code and text. They are protocol constants and must not change.
    #[expect(clippy::too_many_lines, reason = "a table, one line an error")]
    pub fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Validation(_) => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "Dados de entrada invalidos."),
            Self::NotSupported(_) => (StatusCode::UNPROCESSABLE_ENTITY, "NOT_SUPPORTED_BY_CHANNEL", NOT_SUPPORTED),
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Token de autenticacao invalido ou ausente.")
            }
            Self::Forbidden | Self::MissingScopes(_) => {
                (StatusCode::FORBIDDEN, "FORBIDDEN", "Permissao insuficiente para esta operacao.")
            }
            Self::ChannelNotFound => (StatusCode::NOT_FOUND, "CHANNEL_NOT_FOUND", "Canal nao encontrado."),
            Self::MessageNotFound => (StatusCode::NOT_FOUND, "MESSAGE_NOT_FOUND", "Mensagem nao encontrada."),
            Self::CardNotFound => (StatusCode::NOT_FOUND, "CARD_NOT_FOUND", "A mensagem nao tem cartao de contato."),
            Self::ApiKeyNotFound => (StatusCode::NOT_FOUND, "API_KEY_NOT_FOUND", "Chave de API nao encontrada."),
            Self::InstitutionNotFound => {
                (StatusCode::NOT_FOUND, "INSTITUTION_NOT_FOUND", "Instituicao nao encontrada.")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND", "Recurso nao encontrado."),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Metodo nao permitido."),
            Self::ChannelNotConnected => (StatusCode::CONFLICT, "CHANNEL_NOT_CONNECTED", "Canal nao conectado."),
            Self::ChannelExists => (StatusCode::CONFLICT, "CHANNEL_ALREADY_EXISTS", "Ja existe um canal com este id."),
            Self::ChannelReserved => {
                (StatusCode::CONFLICT, "CHANNEL_RESERVED", "O canal sandbox nao pode ser removido.")
            }
            Self::TooManyKeys => {
                (StatusCode::CONFLICT, "API_KEY_LIMIT_REACHED", "Limite de 500 chaves de API validas atingido.")
            }
            Self::TooManyWebhooks => (StatusCode::CONFLICT, "WEBHOOK_LIMIT_REACHED", "Limite de webhooks atingido."),
            Self::WebhookInactive => (StatusCode::CONFLICT, "WEBHOOK_INACTIVE", "Webhook inativo."),
            Self::MessageNotCancellable => {
                (StatusCode::CONFLICT, "MESSAGE_NOT_CANCELLABLE", "Mensagem nao pode mais ser cancelada.")
            }
            Self::CursorExpired(_) => (StatusCode::GONE, "CURSOR_EXPIRED", "Cursor expirado."),
            Self::EventNotFound => (StatusCode::NOT_FOUND, "EVENT_NOT_FOUND", "Evento nao encontrado."),
            Self::WebhookNotFound => (StatusCode::NOT_FOUND, "WEBHOOK_NOT_FOUND", "Webhook nao encontrado."),
            Self::DeliveryNotFound => (StatusCode::NOT_FOUND, "DELIVERY_NOT_FOUND", "Entrega nao encontrada."),
            Self::ConversationNotFound => (StatusCode::NOT_FOUND, "CONVERSATION_NOT_FOUND", "Conversa nao encontrada."),
            Self::ContactNotFound => (StatusCode::NOT_FOUND, "CONTACT_NOT_FOUND", "Contato nao encontrado."),
            Self::MediaNotFound => (StatusCode::NOT_FOUND, "MEDIA_NOT_FOUND", "Midia nao encontrada."),
            Self::MediaExpired => (StatusCode::GONE, "MEDIA_EXPIRED", "Midia expirada na rede."),
            Self::MediaTooLarge => {
                (StatusCode::UNPROCESSABLE_ENTITY, "MEDIA_TOO_LARGE", "Midia maior que o limite de 100 MiB.")
            }
            Self::MediaRefused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "MEDIA_REFUSED", "O endereco da midia nao e permitido.")
            }
            Self::MediaUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "MEDIA_UNAVAILABLE",
                "A rede nao entregou a midia. Tente novamente em alguns segundos.",
            ),
            Self::MediaStoreFull => {
                (StatusCode::SERVICE_UNAVAILABLE, "MEDIA_STORE_FULL", "Sem espaco para guardar a midia.")
            }
            Self::TooManyReaders => (
                StatusCode::SERVICE_UNAVAILABLE,
                "TOO_MANY_READERS",
                "Limite de leitores do fluxo de eventos atingido.",
            ),
            Self::RangeNotSatisfiable(_) => {
                (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_NOT_SATISFIABLE", "Intervalo fora da midia.")
            }
            Self::WindowClosed => (StatusCode::CONFLICT, "WINDOW_CLOSED", "Janela de atendimento de 24 horas fechada."),
            Self::ConversationClosed => (StatusCode::CONFLICT, "CONVERSATION_CLOSED", "Conversa encerrada."),
            Self::ConversationChanged => {
                (StatusCode::CONFLICT, "CONVERSATION_CHANGED", "Conversa alterada por outra operacao.")
            }
            Self::ContactExists(_) => {
                (StatusCode::CONFLICT, "CONTACT_ALREADY_EXISTS", "Ja existe um contato com este telefone.")
            }
            Self::PayloadTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "Corpo da requisicao excede o limite.")
            }
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                "Content-Type deve ser application/json.",
            ),
            Self::UnsupportedContentEncoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "Content-Encoding nao suportado.")
            }
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "IDEMPOTENCY_KEY_REUSED",
                "Idempotency-Key ja usada com outro conteudo.",
            ),
            Self::RateLimited(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "RATE_LIMIT_EXCEEDED",
                "Limite de requisicoes excedido. Tente novamente em alguns segundos.",
            ),
            Self::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", "Recurso ainda nao disponivel."),
            Self::WhatsAppWebMissing => (StatusCode::NOT_IMPLEMENTED, "WHATSAPP_WEB_MISSING", WHATSAPP_WEB_MISSING),
            Self::SecretKeyMissing => (
                StatusCode::NOT_IMPLEMENTED,
                "SECRET_KEY_MISSING",
                "O servidor nao tem RECADO_SECRET_KEY: canais deste tipo exigem uma chave para guardar segredos.",
            ),
            Self::WebhookKeyMissing => (
                StatusCode::NOT_IMPLEMENTED,
                "SECRET_KEY_MISSING",
                "O servidor nao tem RECADO_SECRET_KEY: webhooks exigem uma chave para guardar segredos.",
            ),
            Self::QueueFull => {
                (StatusCode::SERVICE_UNAVAILABLE, "QUEUE_FULL", "Fila do canal cheia. Tente novamente mais tarde.")
            }
            Self::UpgradeInProgress => (
                StatusCode::SERVICE_UNAVAILABLE,
                "UPGRADE_IN_PROGRESS",
                "Atualizacao em andamento: este recurso ainda nao esta disponivel. Tente novamente mais tarde.",
            ),
            Self::SandboxNotErased => (
                StatusCode::SERVICE_UNAVAILABLE,
                "SANDBOX_NOT_ERASED",
                "O telefone do sandbox nao pode ser usado. Faltam as mensagens dele e o contato; o resto foi apagado. \
                 Repita a chamada quando o operador tiver consertado o sandbox.",
            ),
            Self::Unavailable | Self::TooSlow => (
                StatusCode::SERVICE_UNAVAILABLE,
                "SERVICE_UNAVAILABLE",
                "Servico indisponivel. Tente novamente em alguns segundos.",
            ),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Erro interno."),
        }
    }

    /// The error as the wire shows it.
    pub fn body(&self) -> ErrorBody<'_> {
        let (_, code, message) = self.parts();
        let errors = match self {
            Self::Validation(errors) | Self::NotSupported(errors) => Some(errors.as_slice()),
            _ => None,
        };
        let data = match self {
            Self::CursorExpired(oldest) => Some(ErrorData { oldest }),
            _ => None,
        };
        ErrorBody { message, code, errors, data }
    }

    /// The headers of the answer.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        match self {
            Self::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // RFC 6750, 3.1. The body is part of the protocol, and has no room for them.
            Self::MissingScopes(scopes) => {
                let names = scopes.names().join(" ");
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{names}\"");
                headers.extend(HeaderValue::try_from(challenge).ok().map(|value| (WWW_AUTHENTICATE, value)));
            }
            Self::RateLimited(seconds) => {
                headers.insert(RETRY_AFTER, (*seconds).into());
            }
            Self::ContactExists(id) => {
                if let Ok(place) = HeaderValue::try_from(format!("/v1/contacts/{id}")) {
                    headers.insert(LOCATION, place);
                }
            }
            Self::RangeNotSatisfiable(size) => {
                headers.extend(HeaderValue::try_from(format!("bytes */{size}")).ok().map(|size| (CONTENT_RANGE, size)));
            }
            Self::QueueFull
            | Self::UpgradeInProgress
            | Self::SandboxNotErased
            | Self::Unavailable
            | Self::MediaUnavailable
            | Self::MediaStoreFull
            | Self::TooManyReaders => {
                headers.insert(RETRY_AFTER, TRY_AGAIN.into());
            }
            _ => {}
        }
        headers
    }
}

/// The body of an error, with the key order of the seed's examples.
#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    message: &'static str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [FieldError]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<ErrorData<'a>>,
}

/// What an error says besides.
#[derive(Debug, Serialize)]
struct ErrorData<'a> {
    /// The cursor of the oldest place in the event stream.
    oldest: &'a str,
}

/// Makes the server close the connection instead of answering.
#[derive(Debug, Clone, Copy)]
pub struct CloseConnection;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, ..) = self.parts();
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (status, self.headers(), Body::from(body)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        if self == Self::TooSlow {
            response.extensions_mut().insert(CloseConnection);
        }
        // The router sets this header if the method is wrong. An empty value would deny every method.
        debug_assert!(!response.headers().contains_key(ALLOW));
        response
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Validation(errors) => Self::Validation(errors),
            AppError::RateLimited(seconds) => Self::RateLimited(seconds),
            AppError::ChannelNotFound => Self::ChannelNotFound,
            AppError::MessageNotFound => Self::MessageNotFound,
            AppError::ApiKeyNotFound => Self::ApiKeyNotFound,
            AppError::InstitutionNotFound => Self::InstitutionNotFound,
            AppError::ChannelNotConnected => Self::ChannelNotConnected,
            AppError::ChannelExists => Self::ChannelExists,
            AppError::ChannelReserved => Self::ChannelReserved,
            AppError::TooManyKeys => Self::TooManyKeys,
            AppError::MessageNotCancellable => Self::MessageNotCancellable,
            AppError::IdempotencyKeyReused => Self::IdempotencyKeyReused,
            AppError::NotImplemented => Self::NotImplemented,
            AppError::WhatsAppWebMissing => Self::WhatsAppWebMissing,
            AppError::SecretKeyMissing => Self::SecretKeyMissing,
            AppError::QueueFull => Self::QueueFull,
            AppError::Unavailable => Self::Unavailable,
            AppError::Internal => Self::Internal,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        AppError::from(error).into()
    }
}

impl From<FieldErrors> for ApiError {
    fn from(errors: FieldErrors) -> Self {
        Self::Validation(errors)
    }
}
