//! Tests of the metrics.

use std::time::Duration;

use super::*;

#[test]
fn names_that_callers_make_do_not_become_labels() {
    let metrics = Metrics::new();
    metrics.begin_to_count_calls();
    for number in 0..1_000 {
        metrics.called(None, &format!("M{number}"), 405, Duration::ZERO);
        metrics.failed("SANDBOX", &format!("CODE_{number}"));
    }
    let (text, _) = metrics.render(false).expect("text");
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(series("recado_http_requests_total{"), 1);
    assert_eq!(series("recado_message_errors_total{"), CODES + 1);
    assert!(text.contains("recado_http_requests_total{route=\"none\",method=\"other\",status=\"405\"} 1000"), "{text}");
    let other = format!("recado_message_errors_total{{channel_type=\"SANDBOX\",code=\"other\"}} {}", 1_000 - CODES);
    assert!(text.contains(&other), "{text}");
}

#[test]
fn both_forms_have_the_same_series() {
    let metrics = Metrics::new();
    metrics.begin_to_count_calls();
    metrics.called(Some("/health/live"), "GET", 200, Duration::from_millis(3));
    let samples = |open_metrics| {
        let text = metrics.render(open_metrics).expect("text").0;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut names: Vec<_> = lines.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(samples(false), samples(true));
    assert!(metrics.render(true).expect("text").0.ends_with("# EOF\n"));
}

#[test]
fn a_sample_is_in_both_forms_until_the_next_one() {
    let metrics = Metrics::new();
    let of = |channel: &str| OfChannel { institution: "i".to_owned(), channel: channel.to_owned() };
    metrics.replace(|metrics| {
        metrics.channel_waiting.get_or_create(&of("loja")).set(3);
    });
    let line = "recado_channel_waiting{institution=\"i\",channel=\"loja\"} 3\n";
    for open_metrics in [false, true] {
        let text = metrics.render(open_metrics).expect("text").0;
        assert!(text.contains(line) && text.contains("# TYPE recado_channel_waiting gauge\n"), "{text}");
    }
    metrics.replace(|metrics| {
        metrics.channel_waiting.clear();
        metrics.channel_waiting.get_or_create(&of("outra")).set(1);
    });
    let text = metrics.render(true).expect("text").0;
    assert!(text.contains("channel=\"outra\"} 1\n") && !text.contains("loja"), "{text}");
}

#[test]
fn a_counter_of_a_sample_has_its_name_in_both_forms() {
    let metrics = Metrics::new();
    metrics.replace(|metrics| {
        let (institution, channel) = ("i".to_owned(), "loja".to_owned());
        metrics.channel_transitions.get_or_create(&MovedOf { institution, channel, to: "SENT" }).inc_by(3);
    });
    let line = "recado_channel_transitions_total{institution=\"i\",channel=\"loja\",to=\"SENT\"} 3\n";
    for (open_metrics, kind) in [
        (false, "# TYPE recado_channel_transitions_total counter\n"),
        (true, "# TYPE recado_channel_transitions counter\n"),
    ] {
        let text = metrics.render(open_metrics).expect("text").0;
        assert!(text.contains(line) && text.contains(kind), "{text}");
    }
}

#[test]
fn a_scrape_with_two_thousand_channels_is_cheap() {
    let metrics = Metrics::new();
    metrics.replace(|metrics| {
        for number in 0..2_000 {
            let (institution, channel) = ("01a2085f-11aa-7d63-b1c2-3e4f5a6b7c03".to_owned(), format!("canal-{number}"));
            let of = OfChannel { institution: institution.clone(), channel: channel.clone() };
            let state = StateOf {
                institution: institution.clone(),
                channel: channel.clone(),
                state: "CONNECTED",
                cause: "person",
            };
            metrics.channel_state.get_or_create(&state).set(1);
            for kind in ["line", "ack", "receipt"] {
                let (institution, channel) = (institution.clone(), channel.clone());
                metrics.channel_last_activity.get_or_create(&ActivityOf { institution, channel, kind }).set(1.0);
            }
            let (oldest, due) = (&metrics.channel_oldest, &metrics.channel_due);
            for gauge in [&metrics.channel_state_since, oldest, due, &metrics.channel_backlog] {
                gauge.get_or_create(&of).set(0.5);
            }
            metrics.channel_waiting.get_or_create(&of).set(7);
            for to in ["SENDING", "SENT", "DELIVERED", "READ", "FAILED"] {
                let (institution, channel) = (institution.clone(), channel.clone());
                metrics.channel_transitions.get_or_create(&MovedOf { institution, channel, to }).inc_by(7);
            }
        }
    });
    let render = || {
        let began = std::time::Instant::now();
        let text = metrics.render(false).expect("text").0;
        (began.elapsed(), text.lines().count())
    };
    // The best of some: other tests run beside this one. The budget holds even without optimisation, because a scrape copies
    // the text of the sample.
    let (took, lines) = (0..10).map(|_| render()).min().expect("some");
    println!("{lines} lines in {took:?}");
    assert!(lines > 26_000, "{lines} lines");
    assert!(took < Duration::from_millis(20), "{took:?}");
}
