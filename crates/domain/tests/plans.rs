//! The table of number plans equals libphonenumber's metadata, which the crate `phonenumber` contains.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use phonenumber::Metadata;
use phonenumber::metadata::{DATABASE, Descriptor};

const TABLE: &str = "src/phone/plans.tsv";

#[test]
fn the_table_of_plans_is_the_metadata_of_libphonenumber() {
    let path = Path::new(TABLE);
    let wanted = table();
    assert!(wanted.lines().count() > 240, "the metadata has hardly a country");
    if std::env::var_os("RECADO_UPDATE_PLANS").is_some() {
        fs::write(path, &wanted).expect("written");
    }
    let is = fs::read_to_string(path).expect("read");
    let differs = wanted.lines().find(|line| !is.lines().any(|there| there == *line));
    assert!(is == wanted, "set RECADO_UPDATE_PLANS=1 to rewrite it; it lacks {differs:?}");
}

/// Sorted by code. Of several countries with one code the main one comes first, and its lengths count for all.
fn table() -> String {
    let mut text = "# code\tcountry\tlengths\tlengths within an area\tnational prefix\tpattern\n".to_owned();
    for code in 1..=999_u16 {
        let mut plans = DATABASE.by_code(&code).unwrap_or_default();
        plans.sort_by_key(|plan| (!plan.is_main_country_for_code(), plan.id().to_owned()));
        plans.dedup_by_key(|plan| plan.id().to_owned());
        for plan in plans {
            let lengths = lengths(plan, Descriptor::possible_length);
            let local =
                &lengths_of(plan, Descriptor::possible_local_length) - &lengths_of(plan, Descriptor::possible_length);
            let prefix = plan.national_prefix().unwrap_or_default();
            let pattern: String = plan
                .descriptors()
                .general()
                .national_number()
                .as_str()
                .chars()
                .filter(|sign| !sign.is_whitespace())
                .collect();
            writeln!(text, "{code}\t{}\t{lengths}\t{}\t{prefix}\t{pattern}", plan.id(), listed(&local))
                .expect("a text");
        }
    }
    text
}

fn lengths(plan: &Metadata, of: fn(&Descriptor) -> &[u16]) -> String {
    listed(&lengths_of(plan, of))
}

/// The lengths of all kinds of numbers that can be called from abroad: Google's own tools call them possible.
fn lengths_of(plan: &Metadata, of: fn(&Descriptor) -> &[u16]) -> BTreeSet<u16> {
    let of_plan = plan.descriptors();
    let kinds = [
        of_plan.fixed_line(),
        of_plan.mobile(),
        of_plan.toll_free(),
        of_plan.premium_rate(),
        of_plan.shared_cost(),
        of_plan.personal_number(),
        of_plan.voip(),
        of_plan.pager(),
        of_plan.uan(),
        of_plan.voicemail(),
    ];
    kinds.into_iter().flatten().flat_map(|kind| of(kind).iter().copied()).collect()
}

fn listed(lengths: &BTreeSet<u16>) -> String {
    lengths.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}
