//! The errors of fields in English. An error of the API is a sentence: a subject, and what must hold of it.

/// Sentences that are not built from a subject. `{}` stands for a value.
const WHOLE: &[(&str, &str)] = &[
    ("Campo desconhecido.", "Unknown field."),
    ("Campo repetido.", "The field is repeated."),
    ("JSON invalido.", "Invalid JSON."),
    ("JSON invalido (linha {}, coluna {}).", "Invalid JSON (line {}, column {})."),
    ("Informe apenas um destes campos: {}.", "Give only one of these fields: {}."),
    ("Informe to ou conversationId, nao os dois.", "Give to or conversationId, not both."),
    ("Informe attendantId ou departmentId.", "Give attendantId or departmentId."),
    ("Informe page ou cursor, nao ambos.", "Give page or cursor, not both."),
    (
        "Informe de {} a {} etiquetas de ate {} caracteres, separadas por virgulas.",
        "Give {} to {} tags of at most {} characters, separated by commas.",
    ),
    ("Informe o numero com o codigo do pais (DDI+DDD+NUM).", "Give the number with its country code (DDI+DDD+NUM)."),
    ("O telefone parece ter sido convertido pela planilha.", "A spreadsheet seems to have changed the phone number."),
    (
        "O numero nao e o mesmo para todas as instituicoes: informe --institution, ou o numero com + e o codigo do pais.",
        "The number is not the same for all institutions: give --institution, or the number with + and its country code.",
    ),
    ("A mensagem citada nao pertence a esta conversa.", "The quoted message is not of this chat."),
    ("A mensagem citada foi apagada.", "The quoted message was deleted."),
    ("A mensagem citada foi cancelada.", "The quoted message was cancelled."),
    ("A mensagem citada so e enviada depois desta.", "The quoted message is sent after this one."),
    ("Este canal nao oferece este recurso.", "The channel does not offer this."),
    ("Este cabecalho nao e permitido.", "This header is not allowed."),
    ("O endereco do webhook nao e permitido.", "The address of the webhook is not allowed."),
    ("O filtro nao se aplica com conversationId.", "The filter is not for a conversation."),
    ("O filtro nao se aplica a mensagens enviadas.", "The filter is not for sent messages."),
    ("O filtro nao se aplica a mensagens recebidas.", "The filter is not for received messages."),
    ("O inicio do intervalo deve ser anterior ao fim.", "The begin of the range must be before its end."),
    ("O telefone deve ser o da URL.", "The phone number must be that of the URL."),
    (
        "O campo sendAt deve estar entre 5 segundos e 90 dias no futuro.",
        "The field sendAt must be 5 seconds to 90 days ahead.",
    ),
    ("Use cursor para paginas alem de {} itens.", "Use cursor for pages beyond {} items."),
    ("Tipo de mensagem desconhecido.", "Unknown kind of message."),
    ("Status de mensagem desconhecido.", "Unknown status of a message."),
    ("Escopo desconhecido: {}.", "Unknown scope: {}."),
    ("Evento desconhecido: {}.", "Unknown event: {}."),
    ("Evento desconhecido.", "Unknown event."),
    (
        "Este evento existe apenas no fluxo (text/event-stream): {}.",
        "This event is on the stream alone (text/event-stream): {}.",
    ),
    ("Origem desconhecida.", "Unknown source."),
    ("O cenario de sandbox exige uma chave de teste.", "A scenario of the sandbox needs a test key."),
    ("Cenario de sandbox desconhecido.", "Unknown scenario of the sandbox."),
    ("Um canal {} exige uma chave {}.", "A channel of type {} needs a {} key."),
    (
        "A linha do canal esta no no {}: repita o comando la.",
        "The channel's session is on the node {}: repeat the command there.",
    ),
    ("O id sandbox e reservado.", "The id sandbox is reserved."),
    ("Canal nao encontrado.", "There is no such channel."),
    ("Cursor invalido.", "Invalid cursor."),
    ("Chamada invalida.", "Invalid call."),
    ("A Meta recusou o accessToken.", "Meta refused the accessToken."),
    (
        "A Meta nao conhece o phoneNumberId, ou o accessToken nao o alcanca.",
        "Meta does not know the phoneNumberId, or the accessToken does not reach it.",
    ),
];

/// Subjects: longer ones before their beginnings.
const SUBJECTS: &[(&str, &str)] = &[
    ("O campo {}", "The field {}"),
    ("O parametro {}", "The parameter {}"),
    ("O filtro {}", "The filter {}"),
    ("O telefone do contato", "The contact's phone number"),
    ("O telefone", "The phone number"),
    ("O primeiro nome do contato", "The contact's first name"),
    ("O sobrenome do contato", "The contact's last name"),
    ("A organizacao do contato", "The contact's organization"),
    ("O email do contato", "The contact's e-mail address"),
    ("O nome do contato", "The contact's name"),
    ("O nome da chave", "The key's name"),
    ("O nome do canal", "The channel's name"),
    ("O nome da instituicao", "The institution's name"),
    ("O nome", "The name"),
    ("O id do canal", "The channel's id"),
    ("O tipo do canal", "The channel's type"),
    ("O numero do destinatario", "The recipient's number"),
    ("O numero do remetente", "The sender's number"),
    ("O novo numero", "The new number"),
    ("A expiracao", "The expiry"),
    ("As permissoes", "The scopes"),
    ("O ambiente", "The environment"),
    ("O limite", "The limit"),
    ("As chaves de metadata", "The keys of metadata"),
    ("O valor do cabecalho", "The header's value"),
    ("O valor", "The value"),
    ("A busca", "The search"),
    ("A ordem", "The order"),
    ("Os tipos de conversa", "The kinds of chats"),
    ("A lista", "The list"),
    ("O corpo", "The body"),
    ("A referencia", "The reference"),
    ("A Idempotency-Key", "The Idempotency-Key"),
    ("A pagina", "The page"),
    ("A direcao", "The direction"),
    ("A data", "The date"),
    ("O status", "The status"),
    ("O secret", "The secret"),
];

/// What is said of a subject: special forms before general ones.
const SAID: &[(&str, &str)] = &[
    ("e obrigatorio.", "is required."),
    ("e invalido.", "is invalid."),
    ("contem caracteres invalidos.", "has invalid characters."),
    ("tem um formato invalido.", "has an invalid form."),
    ("{} ter no maximo {} caracteres.", "must have at most {} characters."),
    ("{} ter no maximo {} eventos.", "must have at most {} events."),
    ("{} ter no maximo {} cabecalhos.", "must have at most {} headers."),
    ("{} ter no maximo {} KiB.", "must have at most {} KiB."),
    ("{} ter de {} a {} itens.", "must have {} to {} items."),
    ("{} ter de {} a {} digitos.", "must have {} to {} digits."),
    ("{} ter de {} a {} caracteres.", "must have {} to {} characters."),
    ("{} ter de {} a {} caracteres visiveis.", "must have {} to {} visible characters."),
    ("{} ter de {} a {} caracteres ASCII visiveis.", "must have {} to {} visible ASCII characters."),
    (
        "{} ter de {} a {} caracteres ASCII visiveis, sem espacos.",
        "must have {} to {} visible ASCII characters, without spaces.",
    ),
    (
        "{} ter de {} a {} caracteres: letras, digitos, _ e -.",
        "must have {} to {} characters: letters, digits, _ and -.",
    ),
    ("{} ter base64 depois de {}.", "must have base64 after {}."),
    ("{} ter a porta {}, {} ou de {} a {}.", "must have the port {}, {} or {} to {}."),
    ("{} estar entre {} e {}.", "must be between {} and {}."),
    ("{} estar no formato DDI+DDD+NUM.", "must have the form DDI+DDD+NUM (country, area, number)."),
    ("{} estar no formato ISO 8601.", "must have the form of ISO 8601."),
    ("{} estar em UTF-8.", "must be UTF-8."),
    ("{} ser uma lista de textos.", "must be a list of texts."),
    ("{} ser uma lista de eventos.", "must be a list of events."),
    ("{} ser uma lista de {} a {} eventos.", "must be a list of {} to {} events."),
    ("{} ser uma lista de {} a {} canais.", "must be a list of {} to {} channels."),
    (
        "{} ser uma lista de ate {} palavras de {} a {} caracteres.",
        "must be a list of at most {} words of {} to {} characters.",
    ),
    ("{} ser uma lista com ao menos um escopo conhecido.", "must be a list with at least one known scope."),
    ("{} ser uma lista.", "must be a list."),
    ("{} ser um objeto com ate {} chaves.", "must be an object with at most {} keys."),
    ("{} ser um objeto.", "must be an object."),
    ("{} ser um destes: {}.", "must be one of these: {}."),
    ("{} ser uma URL publica http ou https.", "must be a public http or https URL."),
    ("{} ser uma URL https.", "must be an https URL."),
    ("{} ser uma URL sem usuario e senha.", "must be a URL without user and password."),
    ("{} ser um unico emoji.", "must be a single emoji."),
    ("{} ser uma url.", "must be a URL."),
    ("{} ser uma data AAAA-MM-DD de {} ate hoje.", "must be a date YYYY-MM-DD from {} to today."),
    ("{} ser uma data futura em RFC 3339.", "must be a future date in RFC 3339."),
    ("{} ser uma data em RFC 3339.", "must be a date in RFC 3339."),
    ("{} ser uma data futura no formato ISO 8601.", "must be a future date in ISO 8601."),
    ("{} ser now, oldest ou uma data no formato ISO 8601.", "must be now, oldest or a date in ISO 8601."),
    ("{} ser o id de uma conversa.", "must be the id of a conversation."),
    ("{} ser o id de uma enquete.", "must be the id of a poll."),
    ("{} ser o id de um canal.", "must be the id of a channel."),
    ("{} ser o id de uma midia recebida que ainda existe.", "must be the id of a received file that is still there."),
    ("{} ser o id de um contato.", "must be the id of a contact."),
    ("{} ser o nome de um evento.", "must be the name of an event."),
    ("{} ser no maximo {}.", "must be at most {}."),
    ("{} ser um numero de {} a {}, ou null para ilimitado.", "must be a number from {} to {}, or null for no limit."),
    ("{} ser um numero de {} a {}.", "must be a number from {} to {}."),
    ("{} ser um numero a partir de {}.", "must be a number from {} on."),
    ("{} ser um numero inteiro.", "must be a whole number."),
    ("{} ser um numero.", "must be a number."),
    ("{} ser um booleano.", "must be a boolean."),
    ("{} ser uma string.", "must be a string."),
    (
        "{} ser um texto de ate {} caracteres, um numero ou um booleano.",
        "must be a text of at most {} characters, a number or a boolean.",
    ),
    ("{} ser {} ou {}.", "must be {} or {}."),
    ("{} ser {}.", "must be {}."),
];

/// The error of a field in English. A text that is not known stays as it is.
pub fn field(text: &str) -> String {
    let whole = WHOLE.iter().find_map(|(own, english)| Some(filled(english, &values(own, text)?)));
    whole.or_else(|| sentence(text)).unwrap_or_else(|| text.to_owned())
}

/// A subject, and what is said of it.
fn sentence(text: &str) -> Option<String> {
    SUBJECTS.iter().find_map(|(own, english)| {
        let (subject, rest) = match own.strip_suffix("{}") {
            Some(before) => {
                let (name, rest) = text.strip_prefix(before)?.split_once(' ')?;
                (filled(english, &[name]), rest)
            }
            None => ((*english).to_owned(), text.strip_prefix(own)?.strip_prefix(' ')?),
        };
        let said = SAID.iter().find_map(|(own, english)| {
            // `deve` or `devem`, which is `must` in English, is no value.
            let (own, rest) = match own.strip_prefix("{} ") {
                Some(own) => (own, rest.strip_prefix("deve ").or_else(|| rest.strip_prefix("devem "))?),
                None => (*own, rest),
            };
            Some(filled(english, &values(own, rest)?))
        })?;
        Some(format!("{subject} {said}"))
    })
}

/// What stands in the text in the places of `{}`; `None` if it is another text.
fn values<'a>(template: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = template.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let mut values = Vec::new();
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() {
            rest.ends_with(part).then(|| rest.len() - part.len())?
        } else {
            rest.find(part)?
        };
        values.push(&rest[..end]);
        rest = &rest[end + part.len()..];
    }
    (rest.is_empty() && values.iter().all(|value| !value.is_empty())).then_some(values)
}

fn filled(english: &str, values: &[&str]) -> String {
    let mut values = values.iter();
    let mut parts = english.split("{}");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(values.next().copied().unwrap_or_default());
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn sentences_are_translated_with_their_values() {
        let table = [
            ("O campo latitude deve estar entre -90 e 90.", "The field latitude must be between -90 and 90."),
            ("O campo contacts[0].name e obrigatorio.", "The field contacts[0].name is required."),
            (
                "O nome do contato deve ter no maximo 200 caracteres.",
                "The contact's name must have at most 200 characters.",
            ),
            (
                "O tipo do canal deve ser SANDBOX ou WHATSAPP_WABA.",
                "The channel's type must be SANDBOX or WHATSAPP_WABA.",
            ),
            (
                "As permissoes devem ser uma lista com ao menos um escopo conhecido.",
                "The scopes must be a list with at least one known scope.",
            ),
            ("JSON invalido (linha 3, coluna 14).", "Invalid JSON (line 3, column 14)."),
            ("A mensagem citada foi cancelada.", "The quoted message was cancelled."),
            ("at least one scope is needed", "at least one scope is needed"),
        ];
        for (own, english) in table {
            assert_eq!(field(own), english);
        }
    }

    /// Each text of the sources that may be an error of a field.
    #[test]
    fn every_error_of_a_field_is_translated() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of the crates");
        let mut untranslated = Vec::new();
        let mut found = 0;
        for source in ["domain/src", "gateway/src/api", "gateway/src/operations", "providers/src/cloud_api/link.rs"] {
            for path in sources(&crates.join(source)) {
                let text = std::fs::read_to_string(&path).expect("a source");
                let code = text.split("#[cfg(test)]").next().expect("a part").replace("\\\n", "");
                // What callers get for other reasons is in another table.
                for literal in literals(&code).filter(|_| !path.ends_with("api/error.rs")) {
                    found += 1;
                    let english = field(&literal);
                    let left = [" deve", " nao ", " uma ", " um ", "obrigatori"];
                    if english == literal || left.iter().any(|word| english.contains(word)) {
                        untranslated.push(literal);
                    }
                }
            }
        }
        assert!(found > 80, "{found} texts");
        assert!(untranslated.is_empty(), "{untranslated:#?}");
    }

    fn sources(path: &Path) -> Vec<PathBuf> {
        let is_test = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("test"));
        if path.is_file() {
            return vec![path.to_owned()];
        }
        let entries = std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("one").path());
        entries
            .filter(|path| !is_test(path))
            .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
            .collect()
    }

    /// The literals of Portuguese errors, with a number in the place of each value.
    fn literals(code: &str) -> impl Iterator<Item = String> {
        let marks = [
            "deve ",
            "devem ",
            "obrigatorio",
            "invalid",
            "Campo ",
            "Informe ",
            " nao ",
            "recusou",
            "desconhecid",
            "exige uma",
            "reservado",
            "Use ",
        ];
        let literals: Vec<_> = code.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        literals
            .into_iter()
            .filter(move |text| {
                let is_sentence = text.ends_with('.') && text.starts_with(char::is_uppercase) && text.contains(' ');
                is_sentence && marks.iter().any(|mark| text.contains(mark))
            })
            .map(|text| {
                let mut parts = text.split(['{', '}']);
                let mut filled = parts.next().unwrap_or_default().to_owned();
                while let (Some(_), Some(after)) = (parts.next(), parts.next()) {
                    filled.push('7');
                    filled.push_str(after);
                }
                filled
            })
    }
}
