use std::cell::RefCell;

use super::*;

fn number(id: &str) -> Row {
    row(id, Group::Exec, Unit::Milliseconds, id)
}

#[tokio::test]
async fn contenders_take_turns_and_warm_ups_do_not_count() {
    let order = RefCell::new(Vec::new());
    let contender = |id: &'static str, value: f64| {
        let order = &order;
        Contender::one(number(id), move || async move {
            order.borrow_mut().push(id);
            Ok(value)
        })
    };
    let rounds = Rounds { warm_ups: 1, n: 2 };
    let rows = interleave(rounds, vec![contender("a", 1.0), contender("b", 2.0)], |_| ()).await;
    assert_eq!(*order.borrow(), ["a", "b", "a", "b", "a", "b"]);
    assert_eq!(rows[0].samples, [1.0, 1.0]);
    assert_eq!(rows[1].samples, [2.0, 2.0]);
}

#[tokio::test]
async fn failures_are_kept_and_what_never_works_is_given_up() {
    let calls = RefCell::new(0);
    let failing = Contender::one(number("a"), || async {
        *calls.borrow_mut() += 1;
        Err(BenchError::Missing {
            missing: "no such thing".to_owned(),
            remedy: "none",
        })
    });
    let rows = interleave(Rounds { warm_ups: 0, n: 10 }, vec![failing], |_| ()).await;
    assert_eq!(*calls.borrow(), HOPELESS);
    assert_eq!(rows[0].failures.len(), HOPELESS);
    assert_eq!(rows[0].absent.as_deref(), Some("gave up: no such thing: none"));
}

#[tokio::test]
async fn one_run_may_fill_several_rows() {
    let both = Contender::several(vec![number("a"), number("b")], || async {
        Ok(vec![
            ("b".to_owned(), 2.0),
            ("a".to_owned(), 1.0),
            ("c".to_owned(), 3.0),
        ])
    });
    let rows = interleave(Rounds { warm_ups: 0, n: 1 }, vec![both], |_| ()).await;
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].samples[0], rows[1].samples[0]), (1.0, 2.0));
}

#[tokio::test]
async fn what_is_absent_says_why() {
    let rows = interleave(
        Rounds { warm_ups: 0, n: 1 },
        vec![Contender::absent(number("a"), "no engine")],
        |_| (),
    )
    .await;
    assert_eq!(rows[0].absent.as_deref(), Some("no engine"));
    assert!(rows[0].samples.is_empty());
}
