//! The plans of `docs/plans` fit the services of `docs/plans/grayxdp.yaml`.

use super::*;

#[test]
fn every_documented_plan_is_sound_for_the_documented_services() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plans");
    let read = |path: &std::path::Path| std::fs::read_to_string(path).expect("a file");
    let config = load_config(&read(&std::path::Path::new(folder).join("grayxdp.yaml")), "grayxdp.yaml").expect("good");
    let mut strategies = std::collections::BTreeSet::new();
    let mut names = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") || path.ends_with("grayxdp.yaml") {
            continue;
        }
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        let plan = load_plan(&read(&path), &file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(check_plan(&plan, &config), Ok(()), "{file}");
        strategies.insert(plan.spec.strategy.label());
        assert!(names.insert(plan.metadata.name.clone()), "{file}: its name stands twice");
    }
    assert!(names.len() >= 14, "{names:?}");
    assert_eq!(strategies.into_iter().collect::<Vec<_>>(), ["abTest", "blueGreen", "canary", "rolling", "shadow"]);
}
