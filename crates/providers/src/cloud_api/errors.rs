//! Meta's error codes, and what each means for a message, a recipient or the channel. One table serves the answers of
//! `/messages` and the `errors[]` of a `failed` callback.
//!
//! Meta asks callers to use the code, and not the HTTP status, which differs between versions, or the title. Its texts are
//! neither kept nor logged, because they may contain people's numbers.

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use crate::SendOutcome;

/// The effect of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The message, or a short failure at Meta: the same message may pass a little later.
    TemporaryFailure,
    /// Too many messages for one recipient.
    RecipientThrottled,
    /// Too many messages for the number or the account, or Meta is down.
    ChannelThrottled,
    /// The message, permanently.
    PermanentFailure,
    /// The access or the account: Meta refuses every message until a person acts.
    PauseChannel,
}

/// A refusal in Recado's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub class: ErrorClass,
    /// The code for the message.
    pub name: &'static str,
    /// The text for the message, or the reason of the channel's pause.
    pub text: String,
}

impl Refusal {
    /// The outcome of the refused message.
    pub fn outcome(self) -> SendOutcome {
        let Self { class, name: code, text: message } = self;
        match class {
            ErrorClass::TemporaryFailure => SendOutcome::TemporaryFailure { code, message },
            ErrorClass::RecipientThrottled => SendOutcome::RecipientThrottled,
            ErrorClass::ChannelThrottled => SendOutcome::ChannelThrottled,
            ErrorClass::PermanentFailure => SendOutcome::PermanentFailure { code, message },
            ErrorClass::PauseChannel => SendOutcome::ChannelDisabled { reason: message },
        }
    }
}

/// Meta's error object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GraphError {
    /// `None` if Meta gave no number.
    pub code: Option<i64>,
    pub subcode: Option<i64>,
    /// Meta's own hint that another attempt may pass.
    pub transient: bool,
}

impl GraphError {
    /// The meaning of the error. `status` is the HTTP status, or `None` in a callback.
    pub fn refusal(self, status: Option<u16>) -> Refusal {
        let found = TABLE.iter().find(|row| row.is_of(self));
        let (class, name, text) = match found {
            Some(row) => (row.class, row.name, row.text),
            None => self.guess(status),
        };
        Refusal { class, name, text: format!("{text} ({})", self.number()) }
    }

    /// The meaning of a code that is not in the table.
    fn guess(self, status: Option<u16>) -> (ErrorClass, &'static str, &'static str) {
        match status {
            Some(429) => (ErrorClass::ChannelThrottled, "NETWORK_BUSY", "A Meta pediu para enviar mais devagar."),
            Some(401) => (ErrorClass::PauseChannel, "ACCESS_REFUSED", ACCESS),
            Some(500..) => (ErrorClass::TemporaryFailure, "NETWORK_TROUBLE", "A Meta nao conseguiu enviar a mensagem."),
            _ if self.transient => {
                (ErrorClass::TemporaryFailure, "NETWORK_TROUBLE", "A Meta nao conseguiu enviar a mensagem.")
            }
            _ => (ErrorClass::PermanentFailure, "NETWORK_REFUSED", "A Meta recusou a mensagem."),
        }
    }

    /// Meta's number, by which its documentation can be searched.
    fn number(self) -> String {
        match (self.code, self.subcode) {
            (Some(code), Some(subcode)) => format!("Meta {code}/{subcode}"),
            (Some(code), None) => format!("Meta {code}"),
            (None, _) => "Meta sem codigo".to_owned(),
        }
    }
}

/// A row of the table.
struct Row {
    codes: RangeInclusive<i64>,
    /// The subcode, if the row is only about this one.
    subcode: Option<i64>,
    class: ErrorClass,
    name: &'static str,
    /// A text for the person who reads the message or finds the channel paused. Meta's number follows.
    text: &'static str,
    /// The source of the row.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the table, and its test"))]
    source: &'static str,
}

impl Row {
    fn is_of(&self, error: GraphError) -> bool {
        error.code.is_some_and(|code| self.codes.contains(&code))
            && (self.subcode.is_none() || self.subcode == error.subcode)
    }
}

const fn row(
    codes: RangeInclusive<i64>,
    class: ErrorClass,
    name: &'static str,
    text: &'static str,
    source: &'static str,
) -> Row {
    Row { codes, subcode: None, class, name, text, source }
}

const fn one(code: i64, class: ErrorClass, name: &'static str, text: &'static str, source: &'static str) -> Row {
    row(code..=code, class, name, text, source)
}

const ACCESS: &str = "A Meta recusou o acesso do canal. Gere um novo accessToken e conecte o canal de novo.";
const RIGHTS: &str = "O accessToken do canal nao tem permissao para enviar. De a permissao whatsapp_business_messaging \
                      ao token e conecte o canal de novo.";
const NUMBER_GONE: &str = "O numero do canal foi apagado, ou o accessToken nao o alcanca. Confira o phoneNumberId e o \
                           token e conecte o canal de novo.";
const BUSY: &str = "A Meta pediu para enviar mais devagar.";
const DOWN: &str = "A Meta esta fora do ar ou sobrecarregada.";
const TROUBLE: &str = "A Meta nao conseguiu enviar a mensagem.";
const MALFORMED: &str = "A Meta recusou o conteudo da mensagem.";
const NOT_NOW: &str = "A Meta decidiu nao entregar a mensagem a este destinatario.";

/// developers.facebook.com/docs/graph-api/guides/error-handling
const GRAPH: &str = "https://developers.facebook.com/docs/graph-api/guides/error-handling";
/// The limits of the Graph API as a whole.
const GRAPH_LIMITS: &str = "https://developers.facebook.com/docs/graph-api/overview/rate-limiting";
/// A copy of Meta's list for the Cloud API, with its possible solutions.
const LIST: &str = "https://niswey.com/knowledge-base/error-codes-meta";
/// The same list, of an earlier year, with the errors of authorisation.
const KALEYRA: &str = "https://developers.kaleyra.io/docs/cloud-api-error-codes";
/// The same, with HTTP status codes.
const DIALOG: &str = "https://docs.360dialog.com/docs/support/api-error-message-list";
/// What callbacks report.
const WOLKVOX: &str = "https://wolkvox.helpjuice.com/en_US/como-funciona-el-webhook-de-whatsapp";
/// Throughput, the pair limit and quality.
const BSUID: &str = "https://dualhook.com/docs/contacts-bsuid-api-changes";
const DUALHOOK: &str = "https://dualhook.com/docs/capacity-quality-limits";
/// Observed to be temporary.
const DOUBLETICK: &str = "https://learn.doubletick.io (error 131016)";
/// Worth another attempt.
const YCLOUD: &str = "https://docs.ycloud.com (handle-whatsapp-errors, whatsapp-error-code)";

/// The first matching row applies.
static TABLE: &[Row] = &[
    // Access: the token, its permissions, and its number.
    one(0, ErrorClass::PauseChannel, "ACCESS_REFUSED", ACCESS, KALEYRA),
    one(102, ErrorClass::PauseChannel, "ACCESS_REFUSED", ACCESS, GRAPH),
    one(190, ErrorClass::PauseChannel, "ACCESS_REFUSED", ACCESS, GRAPH),
    one(3, ErrorClass::PauseChannel, "PERMISSION_MISSING", RIGHTS, GRAPH),
    one(10, ErrorClass::PauseChannel, "PERMISSION_MISSING", RIGHTS, GRAPH),
    row(200..=299, ErrorClass::PauseChannel, "PERMISSION_MISSING", RIGHTS, GRAPH),
    one(131_005, ErrorClass::PauseChannel, "PERMISSION_MISSING", RIGHTS, LIST),
    one(33, ErrorClass::PauseChannel, "CHANNEL_NUMBER_GONE", NUMBER_GONE, LIST),
    // "Unsupported get/post request. Object with ID … does not exist, cannot be loaded due to missing permissions": about
    // the address, not about the body.
    Row { subcode: Some(33), ..one(100, ErrorClass::PauseChannel, "CHANNEL_NUMBER_GONE", NUMBER_GONE, GRAPH) },
    one(
        133_010,
        ErrorClass::PauseChannel,
        "CHANNEL_NUMBER_NOT_REGISTERED",
        "O numero do canal nao esta registrado na Cloud API. Registre-o no Gerenciador do WhatsApp e retome o canal.",
        LIST,
    ),
    // The account: a person must act.
    one(
        368,
        ErrorClass::PauseChannel,
        "ACCOUNT_RESTRICTED",
        "A Meta restringiu a conta por violar uma politica. Veja o motivo no Gerenciador do WhatsApp e, resolvido, \
         retome o canal.",
        LIST,
    ),
    one(
        131_031,
        ErrorClass::PauseChannel,
        "ACCOUNT_LOCKED",
        "A Meta bloqueou a conta. Veja o motivo no Gerenciador do WhatsApp e, resolvido, retome o canal.",
        WOLKVOX,
    ),
    one(
        131_042,
        ErrorClass::PauseChannel,
        "PAYMENT_MISSING",
        "Ha um problema com o pagamento da conta na Meta. Confira a cobranca no Gerenciador do WhatsApp e retome o canal.",
        WOLKVOX,
    ),
    one(
        131_048,
        ErrorClass::PauseChannel,
        "SPAM_LIMIT",
        "A Meta limitou o numero do canal porque pessoas bloquearam ou denunciaram suas mensagens. Confira a qualidade \
         no Gerenciador do WhatsApp antes de retomar o canal.",
        WOLKVOX,
    ),
    // Too many messages at once, or Meta is not available.
    one(4, ErrorClass::ChannelThrottled, "NETWORK_BUSY", BUSY, GRAPH),
    one(17, ErrorClass::ChannelThrottled, "NETWORK_BUSY", BUSY, GRAPH),
    one(32, ErrorClass::ChannelThrottled, "NETWORK_BUSY", BUSY, GRAPH_LIMITS),
    one(613, ErrorClass::ChannelThrottled, "NETWORK_BUSY", BUSY, GRAPH_LIMITS),
    one(80_007, ErrorClass::ChannelThrottled, "NETWORK_BUSY", BUSY, KALEYRA),
    one(130_429, ErrorClass::ChannelThrottled, "NETWORK_BUSY", BUSY, LIST),
    one(2, ErrorClass::ChannelThrottled, "NETWORK_DOWN", DOWN, LIST),
    one(131_016, ErrorClass::ChannelThrottled, "NETWORK_DOWN", DOWN, DOUBLETICK),
    one(131_057, ErrorClass::ChannelThrottled, "NETWORK_DOWN", "O numero do canal esta em manutencao na Meta.", YCLOUD),
    // One message in six seconds to one person, after a burst of 45 that has to be compensated.
    one(
        131_056,
        ErrorClass::RecipientThrottled,
        "RECIPIENT_BUSY",
        "Mensagens demais para este destinatario.",
        DUALHOOK,
    ),
    one(1, ErrorClass::TemporaryFailure, "NETWORK_TROUBLE", TROUBLE, LIST),
    one(131_000, ErrorClass::TemporaryFailure, "NETWORK_TROUBLE", TROUBLE, YCLOUD),
    // The recipient.
    one(
        131_026,
        ErrorClass::PermanentFailure,
        "UNDELIVERABLE",
        "A mensagem nao pode ser entregue: o numero nao esta no WhatsApp, usa uma versao antiga ou nao aceitou os \
         termos.",
        WOLKVOX,
    ),
    one(
        131_062,
        ErrorClass::PermanentFailure,
        "RECIPIENT_NOT_ALLOWED",
        "A Meta nao aceita esta mensagem para um id de usuario: informe o numero.",
        BSUID,
    ),
    one(
        131_047,
        ErrorClass::PermanentFailure,
        "WINDOW_CLOSED",
        "O destinatario nao escreveu a este numero nas ultimas 24 horas; fora dessa janela a Meta so aceita modelos.",
        YCLOUD,
    ),
    one(131_049, ErrorClass::PermanentFailure, "NOT_DELIVERED_BY_CHOICE", NOT_NOW, WOLKVOX),
    one(130_472, ErrorClass::PermanentFailure, "NOT_DELIVERED_BY_CHOICE", NOT_NOW, WOLKVOX),
    one(
        130_497,
        ErrorClass::PermanentFailure,
        "COUNTRY_RESTRICTED",
        "A Meta nao deixa esta conta enviar mensagens ao pais do destinatario.",
        DIALOG,
    ),
    one(
        131_030,
        ErrorClass::PermanentFailure,
        "RECIPIENT_NOT_ALLOWED",
        "O destinatario nao esta na lista de numeros de teste deste numero da Meta.",
        LIST,
    ),
    one(
        131_021,
        ErrorClass::PermanentFailure,
        "RECIPIENT_IS_SENDER",
        "O destinatario e o proprio numero do canal.",
        LIST,
    ),
    // The body: a refusal of Recado, or an unknown version of the API.
    one(100, ErrorClass::PermanentFailure, "NETWORK_REFUSED_CONTENT", MALFORMED, LIST),
    one(131_008, ErrorClass::PermanentFailure, "NETWORK_REFUSED_CONTENT", MALFORMED, LIST),
    one(131_009, ErrorClass::PermanentFailure, "NETWORK_REFUSED_CONTENT", MALFORMED, LIST),
    one(131_051, ErrorClass::PermanentFailure, "NETWORK_REFUSED_CONTENT", MALFORMED, LIST),
];
