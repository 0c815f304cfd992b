use crate::document::Descriptor;
use crate::platform::Platform;

/// The images of an index that a machine can run, best first; or the platforms that are
/// there, if none of them is right.
///
/// Attestations and artifacts are skipped. Images whose descriptor names no platform come
/// only where none does better: their config has to tell.
pub(crate) fn choose<'a>(
    descriptors: &'a [Descriptor],
    wanted: &Platform,
) -> Result<Vec<&'a Descriptor>, Vec<Platform>> {
    let images = || {
        descriptors.iter().filter(|descriptor| {
            !descriptor.is_attestation()
                && descriptor.artifact_type.is_none()
                && (descriptor.is_manifest() || descriptor.is_index())
        })
    };
    let mut suitable: Vec<(u32, &Descriptor)> = images()
        .filter_map(|descriptor| Some((wanted.suits(&descriptor.platform()?)?, descriptor)))
        .collect();
    // Stable, so that among equals the index's own order decides.
    suitable.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    if let Some((_, best)) = suitable.first() {
        return Ok(vec![best]);
    }
    let unnamed: Vec<&Descriptor> = images().filter(|d| d.platform().is_none()).collect();
    if !unnamed.is_empty() {
        return Ok(unnamed);
    }
    let mut available: Vec<Platform> = images().filter_map(Descriptor::platform).collect();
    available.sort();
    available.dedup();
    Err(available)
}

/// How an error lists the platforms that are there.
pub(crate) fn list_platforms(available: &[Platform]) -> String {
    const SHOWN: usize = 24;
    if available.is_empty() {
        return "none".to_owned();
    }
    let mut text = available
        .iter()
        .take(SHOWN)
        .map(Platform::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if available.len() > SHOWN {
        text.push_str(&format!(" and {} more", available.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::media_type::{OCI_INDEX, OCI_MANIFEST};
    use serde_json::json;

    fn descriptor(platform: Option<&str>, media_type: &str) -> Descriptor {
        let name = format!("{platform:?}{media_type}");
        let mut value = json!({
            "mediaType": media_type, "digest": Digest::sha256(name.as_bytes()), "size": 1
        });
        if let Some(platform) = platform {
            let mut parts = platform.split('/');
            value["platform"] = json!({"os": parts.next(), "architecture": parts.next()});
            if let Some(variant) = parts.next() {
                value["platform"]["variant"] = variant.into();
            }
        }
        serde_json::from_value(value).unwrap()
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Result<String, Vec<Platform>> {
        let descriptors: Vec<_> = platforms.iter().map(|p| descriptor(Some(p), OCI_MANIFEST)).collect();
        let wanted = Platform::parse(wanted).unwrap();
        let best = choose(&descriptors, &wanted)?;
        assert_eq!(best.len(), 1);
        Ok(best[0].platform().unwrap().to_string())
    }

    #[test]
    fn the_best_variant_wins() {
        let all = [
            "unknown/unknown",
            "linux/386",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm64/v8",
            "linux/amd64",
            "windows/amd64",
        ];
        for (wanted, best) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/arm/v7", "linux/arm/v6"),
            ("linux/arm/v5", "linux/arm/v5"),
            ("linux/arm64", "linux/arm64"),
            ("linux/amd64/v3", "linux/amd64"),
        ] {
            assert_eq!(chosen(&all, wanted).as_deref(), Ok(best), "{wanted}");
        }
        let there = chosen(&all, "linux/s390x").unwrap_err();
        assert_eq!(there.len(), 6, "attestations are not platforms: {there:?}");
        assert!(list_platforms(&there).contains("linux/arm/v5"));
    }

    #[test]
    fn unnamed_platforms_are_candidates_of_last_resort() {
        let wanted = Platform::parse("linux/amd64").unwrap();
        let descriptors = [
            descriptor(None, OCI_MANIFEST),
            descriptor(None, OCI_INDEX),
            descriptor(Some("linux/arm64"), OCI_MANIFEST),
            descriptor(None, "application/vnd.in-toto+json"),
        ];
        let found = choose(&descriptors, &wanted).unwrap();
        assert_eq!(found, [&descriptors[0], &descriptors[1]]);
        let arm = Platform::parse("linux/arm64").unwrap();
        assert_eq!(choose(&descriptors, &arm).unwrap(), [&descriptors[2]]);
        assert_eq!(choose(&[], &arm), Err(vec![]));
    }
}
