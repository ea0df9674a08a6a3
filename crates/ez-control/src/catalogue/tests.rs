//! The bundled catalogue, and how a catalogue is asked.

use super::*;

fn catalogue(rows: &[(&str, &str)]) -> Catalogue {
    let rows: Vec<String> =
        rows.iter().map(|(name, input)| format!(r#"{{"name":"{name}","input":"{input}"}}"#)).collect();
    document::parse(&format!(r#"{{"source":"x","version":"1","models":[{}]}}"#, rows.join(","))).unwrap()
}

#[test]
fn the_bundled_document_is_whole_and_in_order() {
    let catalogue = document::parse(BUNDLED).unwrap();
    assert!(catalogue.len() > 3000, "{} models", catalogue.len());
    assert_eq!((catalogue.origin.source.as_str(), catalogue.license.as_str()), ("litellm", "MIT"));
    assert!(catalogue.origin.upstream_url.contains(&catalogue.origin.version), "{:?}", catalogue.origin);
    assert_eq!(catalogue.checksum, bundled().checksum);
    let names: Vec<&str> = BUNDLED.lines().filter_map(|line| line.strip_prefix(r#"{"name":""#)).collect();
    assert!(names.is_sorted(), "the file is sorted, so that a new release shows what changed");
    assert_eq!(names.len(), catalogue.len());
    assert!(BUNDLED.len() < 700_000, "{} bytes", BUNDLED.len());
}

#[test]
fn well_known_models_are_known() {
    let catalogue = bundled();
    let gpt = catalogue.get("gpt-4o").unwrap();
    assert_eq!((gpt.kind, gpt.context_window, gpt.max_output_tokens), (ModelKind::Chat, 128_000, 16_384));
    let prices = gpt.prices.named().map(|(_, price)| price.map(|price| price.to_string()));
    assert_eq!(prices, [Some("2.5".to_owned()), Some("10".to_owned()), Some("1.25".to_owned()), None]);
    assert!(gpt.supports.vision && gpt.supports.functions && gpt.supports.tool_choice && gpt.supports.stream);
    assert_eq!(catalogue.get("text-embedding-3-small").unwrap().kind, ModelKind::Embedding);
    assert_eq!(catalogue.get("rerank-v3.5").unwrap().kind, ModelKind::Rerank);
    assert_eq!(catalogue.get("rerank-v3.5").unwrap().prices, Prices::default(), "it is paid by the query");
    assert!(catalogue.find("openai/GPT-4o", "").is_some());
    assert_eq!(catalogue.find("no-such-model", "nor-this"), None);
}

#[test]
fn a_model_is_found_by_upstream_then_by_the_end_of_it_then_by_public_name() {
    let catalogue = catalogue(&[("vendor/Kimi", "1"), ("kimi", "2"), ("public", "3"), ("a/two", "4"), ("b/TWO", "5")]);
    let cases = [
        ("vendor/Kimi", "public", Some("1")),
        ("Kimi", "public", Some("2")),
        ("other/KIMI", "public", Some("2")),
        ("x/two", "public", Some("5")),
        ("unheard", "public", Some("3")),
        ("unheard", "x/public", None),
        ("", "", None),
    ];
    for (upstream, public, expected) in cases {
        let found = catalogue.find(upstream, public).and_then(|facts| facts.prices.input);
        assert_eq!(found.map(|price| price.to_string()).as_deref(), expected, "{upstream} {public}");
    }
}

#[test]
fn lists_are_paged_searched_and_of_one_kind() {
    let catalogue = catalogue(&[("b", "1"), ("Ab", "1"), ("c", "1"), ("ab", "1")]);
    let names = |search, kind, offset, limit| {
        let found = catalogue.list(search, kind, Page { offset, limit });
        (found.items.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), found.total)
    };
    assert_eq!(names(None, None, 0, 10), (vec!["Ab", "ab", "b", "c"], 4));
    assert_eq!(names(None, None, 1, 2), (vec!["ab", "b"], 4));
    assert_eq!(names(Some("AB"), Some(ModelKind::Chat), 1, 5), (vec!["ab"], 2));
    assert_eq!(names(None, Some(ModelKind::Rerank), 0, 5), (vec![], 0));
    assert_eq!(names(None, None, 9, 5), (vec![], 4));
}
