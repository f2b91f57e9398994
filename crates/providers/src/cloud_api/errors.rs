//! Meta's error codes: what each means for a message, a recipient or the channel. One table for the answers of
//! `/messages` and for the `errors[]` of a `failed` callback.
//!
//! Meta asks callers to go by the code: not by the HTTP status, which differs between versions, and not by the title.
//! Its own texts are neither kept nor logged: they may hold the numbers of people.

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use crate::SendOutcome;

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The message, or a hiccup of Meta's: the same message may pass a little later.
    TryAgain,
    /// Too much for one recipient.
    RecipientBusy,
    /// Too much for the number or the account, or Meta is down.
    ChannelBusy,
    /// The message, for good.
    Refused,
    /// The access or the account: every message will be refused until a person acts.
    PauseChannel,
}

/// A refusal, in our words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub class: Class,
    /// The message's `error.code`.
    pub name: &'static str,
    /// The message's `error.message`, or why the channel is paused.
    pub text: String,
}

impl Fault {
    /// What it means for the message that met it.
    pub fn outcome(self) -> SendOutcome {
        let Self { class, name: code, text: message } = self;
        match class {
            Class::TryAgain => SendOutcome::TemporaryFailure { code, message },
            Class::RecipientBusy => SendOutcome::RecipientThrottled,
            Class::ChannelBusy => SendOutcome::ChannelThrottled,
            Class::Refused => SendOutcome::PermanentFailure { code, message },
            Class::PauseChannel => SendOutcome::ChannelDisabled { reason: message },
        }
    }
}

/// What Meta says of a refusal, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GraphError {
    /// `None` where it gave no number.
    pub code: Option<i64>,
    pub subcode: Option<i64>,
    /// Meta's own hint that another try may pass.
    pub transient: bool,
}

impl GraphError {
    /// What it means; `status` is the HTTP status it came with, `None` in a callback.
    pub fn fault(self, status: Option<u16>) -> Fault {
        let found = TABLE.iter().find(|row| row.is_of(self));
        let (class, name, text) = match found {
            Some(row) => (row.class, row.name, row.text),
            None => self.guess(status),
        };
        Fault { class, name, text: format!("{text} ({})", self.number()) }
    }

    /// For a code that the table does not have.
    fn guess(self, status: Option<u16>) -> (Class, &'static str, &'static str) {
        match status {
            Some(429) => (Class::ChannelBusy, "NETWORK_BUSY", "A Meta pediu para enviar mais devagar."),
            Some(401) => (Class::PauseChannel, "ACCESS_REFUSED", ACCESS),
            Some(500..) => (Class::TryAgain, "NETWORK_TROUBLE", "A Meta nao conseguiu enviar a mensagem."),
            _ if self.transient => (Class::TryAgain, "NETWORK_TROUBLE", "A Meta nao conseguiu enviar a mensagem."),
            _ => (Class::Refused, "NETWORK_REFUSED", "A Meta recusou a mensagem."),
        }
    }

    /// Meta's number, by which its documentation is searched.
    fn number(self) -> String {
        match (self.code, self.subcode) {
            (Some(code), Some(subcode)) => format!("Meta {code}/{subcode}"),
            (Some(code), None) => format!("Meta {code}"),
            (None, _) => "Meta sem codigo".to_owned(),
        }
    }
}

/// One fact.
struct Row {
    codes: RangeInclusive<i64>,
    /// Where only this subcode is meant.
    subcode: Option<i64>,
    class: Class,
    name: &'static str,
    /// For the person who reads the message or finds the channel paused; Meta's number follows.
    text: &'static str,
    /// Where the fact is from.
    #[cfg_attr(not(test), expect(dead_code, reason = "for who reads the table, and its test"))]
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
    class: Class,
    name: &'static str,
    text: &'static str,
    source: &'static str,
) -> Row {
    Row { codes, subcode: None, class, name, text, source }
}

const fn one(code: i64, class: Class, name: &'static str, text: &'static str, source: &'static str) -> Row {
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
const DUALHOOK: &str = "https://dualhook.com/docs/capacity-quality-limits";
/// What has been seen to be temporary.
const DOUBLETICK: &str = "https://learn.doubletick.io (error 131016)";
/// Which are worth another try.
const YCLOUD: &str = "https://docs.ycloud.com (handle-whatsapp-errors, whatsapp-error-code)";

/// The first row that fits counts.
static TABLE: &[Row] = &[
    // Access: the token, its rights, the number it is for.
    one(0, Class::PauseChannel, "ACCESS_REFUSED", ACCESS, KALEYRA),
    one(102, Class::PauseChannel, "ACCESS_REFUSED", ACCESS, GRAPH),
    one(190, Class::PauseChannel, "ACCESS_REFUSED", ACCESS, GRAPH),
    one(3, Class::PauseChannel, "PERMISSION_MISSING", RIGHTS, GRAPH),
    one(10, Class::PauseChannel, "PERMISSION_MISSING", RIGHTS, GRAPH),
    row(200..=299, Class::PauseChannel, "PERMISSION_MISSING", RIGHTS, GRAPH),
    one(131_005, Class::PauseChannel, "PERMISSION_MISSING", RIGHTS, LIST),
    one(33, Class::PauseChannel, "CHANNEL_NUMBER_GONE", NUMBER_GONE, LIST),
    // "Unsupported get/post request. Object with ID … does not exist, cannot be loaded due to missing permissions": of
    // the address, not of the body.
    Row { subcode: Some(33), ..one(100, Class::PauseChannel, "CHANNEL_NUMBER_GONE", NUMBER_GONE, GRAPH) },
    one(
        133_010,
        Class::PauseChannel,
        "CHANNEL_NUMBER_NOT_REGISTERED",
        "O numero do canal nao esta registrado na Cloud API. Registre-o no Gerenciador do WhatsApp e retome o canal.",
        LIST,
    ),
    // The account: somebody has to look.
    one(
        368,
        Class::PauseChannel,
        "ACCOUNT_RESTRICTED",
        "A Meta restringiu a conta por violar uma politica. Veja o motivo no Gerenciador do WhatsApp e, resolvido, \
         retome o canal.",
        LIST,
    ),
    one(
        131_031,
        Class::PauseChannel,
        "ACCOUNT_LOCKED",
        "A Meta bloqueou a conta. Veja o motivo no Gerenciador do WhatsApp e, resolvido, retome o canal.",
        WOLKVOX,
    ),
    one(
        131_042,
        Class::PauseChannel,
        "PAYMENT_MISSING",
        "Ha um problema com o pagamento da conta na Meta. Confira a cobranca no Gerenciador do WhatsApp e retome o canal.",
        WOLKVOX,
    ),
    one(
        131_048,
        Class::PauseChannel,
        "SPAM_LIMIT",
        "A Meta limitou o numero do canal porque pessoas bloquearam ou denunciaram suas mensagens. Confira a qualidade \
         no Gerenciador do WhatsApp antes de retomar o canal.",
        WOLKVOX,
    ),
    // Too much at once, or nobody at home.
    one(4, Class::ChannelBusy, "NETWORK_BUSY", BUSY, GRAPH),
    one(17, Class::ChannelBusy, "NETWORK_BUSY", BUSY, GRAPH),
    one(32, Class::ChannelBusy, "NETWORK_BUSY", BUSY, GRAPH_LIMITS),
    one(613, Class::ChannelBusy, "NETWORK_BUSY", BUSY, GRAPH_LIMITS),
    one(80_007, Class::ChannelBusy, "NETWORK_BUSY", BUSY, KALEYRA),
    one(130_429, Class::ChannelBusy, "NETWORK_BUSY", BUSY, LIST),
    one(2, Class::ChannelBusy, "NETWORK_DOWN", DOWN, LIST),
    one(131_016, Class::ChannelBusy, "NETWORK_DOWN", DOWN, DOUBLETICK),
    one(131_057, Class::ChannelBusy, "NETWORK_DOWN", "O numero do canal esta em manutencao na Meta.", YCLOUD),
    // One message in six seconds to one person, after a burst of 45 that has to be paid back.
    one(131_056, Class::RecipientBusy, "RECIPIENT_BUSY", "Mensagens demais para este destinatario.", DUALHOOK),
    one(1, Class::TryAgain, "NETWORK_TROUBLE", TROUBLE, LIST),
    one(131_000, Class::TryAgain, "NETWORK_TROUBLE", TROUBLE, YCLOUD),
    // The recipient.
    one(
        131_026,
        Class::Refused,
        "UNDELIVERABLE",
        "A mensagem nao pode ser entregue: o numero nao esta no WhatsApp, usa uma versao antiga ou nao aceitou os \
         termos.",
        WOLKVOX,
    ),
    one(
        131_047,
        Class::Refused,
        "WINDOW_CLOSED",
        "O destinatario nao escreveu a este numero nas ultimas 24 horas; fora dessa janela a Meta so aceita modelos.",
        YCLOUD,
    ),
    one(131_049, Class::Refused, "NOT_DELIVERED_BY_CHOICE", NOT_NOW, WOLKVOX),
    one(130_472, Class::Refused, "NOT_DELIVERED_BY_CHOICE", NOT_NOW, WOLKVOX),
    one(
        130_497,
        Class::Refused,
        "COUNTRY_RESTRICTED",
        "A Meta nao deixa esta conta enviar mensagens ao pais do destinatario.",
        DIALOG,
    ),
    one(
        131_030,
        Class::Refused,
        "RECIPIENT_NOT_ALLOWED",
        "O destinatario nao esta na lista de numeros de teste deste numero da Meta.",
        LIST,
    ),
    one(131_021, Class::Refused, "RECIPIENT_IS_SENDER", "O destinatario e o proprio numero do canal.", LIST),
    // The body. A fault of Recado, or of a version of the API that it does not know.
    one(100, Class::Refused, "NETWORK_REFUSED_CONTENT", MALFORMED, LIST),
    one(131_008, Class::Refused, "NETWORK_REFUSED_CONTENT", MALFORMED, LIST),
    one(131_009, Class::Refused, "NETWORK_REFUSED_CONTENT", MALFORMED, LIST),
    one(131_051, Class::Refused, "NETWORK_REFUSED_CONTENT", MALFORMED, LIST),
];
