//! Commands with several targets: a target that fails does not keep the others waiting.

use crate::failure::Failure;
use crate::output;

/// Does something for each target. What fails is told at once and the next target is
/// taken; the answer is 1 then.
///
/// # Errors
/// When there is nobody to go on for: the output is closed.
pub(crate) async fn each(
    targets: &[String],
    mut action: impl AsyncFnMut(&str) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let mut status = 0;
    for target in targets {
        match action(target).await {
            Ok(()) => {}
            Err(Failure::Report(report)) => {
                output::report(&report);
                status = 1;
            }
            Err(silent @ Failure::Silent { .. }) => return Err(silent),
        }
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_others_are_not_kept_waiting() {
        let mut seen = Vec::new();
        let targets = ["a", "b", "c"].map(str::to_owned);
        let status = each(&targets, async |target: &str| {
            seen.push(target.to_owned());
            if target == "b" {
                Err(Failure::new("no b"))
            } else {
                Ok(())
            }
        })
        .await
        .unwrap();
        assert_eq!(status, 1);
        assert_eq!(seen, targets);
    }

    #[tokio::test]
    async fn a_closed_output_ends_it() {
        let mut seen = 0;
        let targets = ["a", "b"].map(str::to_owned);
        let result = each(&targets, async |_: &str| {
            seen += 1;
            Err(Failure::interrupted(13))
        })
        .await;
        assert!(result.is_err());
        assert_eq!(seen, 1);
    }
}
