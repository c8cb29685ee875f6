use dcos_marathon::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

/// The next moments after `from`, in local time.
fn next(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let cron: Cron = cron.parse().unwrap();
    let zone = TimeZone::get(zone).unwrap();
    let mut at: Timestamp = from.parse().unwrap();
    (0..count)
        .map_while(|_| {
            at = cron.next_after(at, &zone)?;
            Some(at.to_string().replace(":00.000Z", "Z"))
        })
        .collect()
}

fn check(cron: &str, from: &str, expected: &[&str]) {
    let found = next(cron, "UTC", from, expected.len());
    assert_eq!(found, expected, "{cron}");
}

#[test]
fn days_and_times() {
    let from = "2017-10-02T10:00:00Z";
    check(
        "* * * * *",
        from,
        &["2017-10-02T10:01Z", "2017-10-02T10:02Z"],
    );
    check(
        "*/20 9,11 * * *",
        from,
        &[
            "2017-10-02T11:00Z",
            "2017-10-02T11:20Z",
            "2017-10-02T11:40Z",
            "2017-10-03T09:00Z",
        ],
    );
    check(
        "5/20 * * * *",
        from,
        &[
            "2017-10-02T10:05Z",
            "2017-10-02T10:25Z",
            "2017-10-02T10:45Z",
            "2017-10-02T11:05Z",
        ],
    );
    check(
        "0 22-1 * * *",
        from,
        &[
            "2017-10-02T22:00Z",
            "2017-10-02T23:00Z",
            "2017-10-03T00:00Z",
            "2017-10-03T01:00Z",
        ],
    );
    check(
        "0 0 1 JAN *",
        from,
        &["2018-01-01T00:00Z", "2019-01-01T00:00Z"],
    );
    check(
        "0 0 29 2 *",
        from,
        &["2020-02-29T00:00Z", "2024-02-29T00:00Z"],
    );
    check("0 0 20-31 2 *", from, &["2018-02-20T00:00Z"]);
    check("0 12 * * FRI", from, &["2017-10-06T12:00Z"]);
}

#[test]
fn both_day_fields_must_match() {
    let from = "2017-10-02T10:00:00Z";
    check("0 9 1-7 * 1", from, &["2017-11-06T09:00Z"]);
    check("0 9 1-7 * 1-5", from, &["2017-10-03T09:00Z"]);
    check("0 9 1-7 * 6-7", from, &["2017-10-07T09:00Z"]);
    check("0 9 8-14 * 1-5", from, &["2017-10-09T09:00Z"]);
    check("0 9 22-28 * 6-7", from, &["2017-10-22T09:00Z"]);
    check("* * */1 * 3", from, &["2017-10-04T00:00Z"]);
    check(
        "0 0 13 * 5",
        from,
        &["2017-10-13T00:00Z", "2018-04-13T00:00Z"],
    );
}

#[test]
fn last_nearest_and_nth_days() {
    let from = "2017-10-02T10:00:00Z";
    check(
        "0 0 L * *",
        from,
        &["2017-10-31T00:00Z", "2017-11-30T00:00Z"],
    );
    check(
        "0 0 L-2 * *",
        from,
        &["2017-10-29T00:00Z", "2017-11-28T00:00Z"],
    );
    // 15 October 2017 was a Sunday, 1 July a Saturday, 31 December a Sunday.
    check(
        "0 0 15W * *",
        from,
        &["2017-10-16T00:00Z", "2017-11-15T00:00Z"],
    );
    check("0 0 1W 7 *", "2017-06-01T00:00:00Z", &["2017-07-03T00:00Z"]);
    check("0 0 LW 12 *", from, &["2017-12-29T00:00Z"]);
    check(
        "0 0 * * 5L",
        from,
        &["2017-10-27T00:00Z", "2017-11-24T00:00Z"],
    );
    check(
        "0 0 * * 5#3",
        from,
        &["2017-10-20T00:00Z", "2017-11-17T00:00Z"],
    );
    check(
        "0 0 * * 1#5",
        from,
        &["2017-10-30T00:00Z", "2018-01-29T00:00Z"],
    );
}

#[test]
fn years_may_be_named_and_end() {
    let from = "2017-10-02T10:00:00Z";
    check(
        "0 0 1 1 * 2019-2020",
        from,
        &["2019-01-01T00:00Z", "2020-01-01T00:00Z"],
    );
    assert_eq!(next("0 0 1 1 * 2019", "UTC", from, 5).len(), 1);
    assert_eq!(next("0 0 1 1 * 1999", "UTC", from, 5).len(), 0);
}

#[test]
fn clocks_that_change() {
    // In Rome the clock leapt from 02:00 to 03:00 on 31 March 2019, and back from 03:00 on 27 October.
    let rome = |cron, from, count| next(cron, "Europe/Rome", from, count);
    assert_eq!(
        rome("55 23 * * *", "2019-03-30T22:55:00Z", 2),
        ["2019-03-31T21:55Z", "2019-04-01T21:55Z"]
    );
    // 02:30 does not come on the 31st.
    assert_eq!(
        rome("30 2 * * *", "2019-03-29T12:00:00Z", 3),
        [
            "2019-03-30T01:30Z",
            "2019-04-01T00:30Z",
            "2019-04-02T00:30Z"
        ]
    );
    // It comes twice on 27 October; once is enough.
    assert_eq!(
        rome("30 2 * * *", "2019-10-26T12:00:00Z", 2),
        ["2019-10-27T00:30Z", "2019-10-28T01:30Z"]
    );
    // What runs every half hour does so all through the night.
    assert_eq!(
        rome("*/30 * * * *", "2019-10-27T00:00:00Z", 4),
        [
            "2019-10-27T00:30Z",
            "2019-10-27T01:00Z",
            "2019-10-27T01:30Z",
            "2019-10-27T02:00Z"
        ]
    );
    assert_eq!(
        rome("*/30 * * * *", "2019-03-31T00:30:00Z", 2),
        ["2019-03-31T01:00Z", "2019-03-31T01:30Z"]
    );
    // Hours apart by a half, and a day that was left out.
    assert_eq!(
        next("0 6 * * *", "Asia/Kolkata", "2020-01-01T00:00:00Z", 1),
        ["2020-01-01T00:30Z"]
    );
    assert_eq!(
        next("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1),
        ["2012-12-29T22:00Z"]
    );
}

#[test]
fn refused() {
    for text in [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "a * * * *",
        "1- * * * *",
        "-1 * * * *",
        "wrong cron",
        "1,,2 * * * *",
        "0 0 31 2 *",
        "0 0 30-31 2 *",
        "0 0 31 4,6 *",
        "0 0 * * 1#6",
        "0 0 5#3 * *",
        "0 0 * * 5W",
        "* * * * * 1969",
        "0 0 29 2 5#1",
    ] {
        assert!(text.parse::<Cron>().is_err(), "{text}");
    }
}

#[test]
fn text_is_kept_but_for_what_says_nothing() {
    for (text, shown) in [
        ("*/1  * * * *", "* * * * *"),
        ("*/2 * * * *", "*/2 * * * *"),
        ("0 0 1 jan mon", "0 0 1 1 1"),
        ("0 0 L * *", "0 0 L * *"),
    ] {
        assert_eq!(text.parse::<Cron>().unwrap().to_string(), shown);
    }
}

/// Minute after minute, without any cleverness.
fn slowly(cron: &Cron, after: Timestamp, zone: &TimeZone, minutes: i64) -> Option<Timestamp> {
    let first = after.millis() / 60_000 + 1;
    (first..first + minutes).find_map(|minute| {
        let at = jiff::Timestamp::from_millisecond(minute * 60_000).unwrap();
        let local = at.to_zoned(zone.clone());
        let number = |part: i8| u32::from(part.unsigned_abs());
        let month = number(local.month());
        let matches = cron.minutes.holds(number(local.minute()))
            && cron.hours.holds(number(local.hour()))
            && cron.months.holds(month)
            && cron.days_in(local.year(), month) & 1 << number(local.day()) != 0;
        // The second coming of an hour counts only if every hour does.
        let earlier = zone.to_ambiguous_zoned(local.datetime()).earlier().unwrap();
        let counts = cron.hours.is_any() || earlier.timestamp() == at;
        (matches && counts).then(|| Timestamp::from_millis(minute * 60_000))
    })
}

fn item(last: u32, first: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (first..=last).prop_map(|n| n.to_string()),
        1 => (1..=last).prop_map(|n| format!("*/{n}")),
        1 => (first..=last, first..=last).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (first..=last, first..=last).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn as_found_by_looking_at_every_minute(
        minute in item(59, 0), hour in item(23, 0), day in item(31, 1), week_day in item(7, 0),
        zone in prop::sample::select(vec!["UTC", "Europe/Rome", "America/New_York", "Australia/Lord_Howe"]),
        // Around changes of clocks in 2019, in hours since the epoch.
        from in prop::sample::select(vec![432_100i64, 431_600, 435_900, 436_900, 437_100, 433_000]),
        more in 0i64..60 * 24 * 4,
    ) {
        let text = format!("{minute} {hour} {day} * {week_day}");
        let Ok(cron) = text.parse::<Cron>() else { return Ok(()) };
        let zone = TimeZone::get(zone).unwrap();
        let after = Timestamp::from_millis((from * 60 + more) * 60_000 + 17);
        let days = 12;
        let found = cron.next_after(after, &zone);
        let slow = slowly(&cron, after, &zone, days * 24 * 60);
        let in_sight = after.millis() + days * 24 * 3_600_000;
        prop_assert_eq!(found.filter(|at| at.millis() <= in_sight - 60_000), slow.filter(|at| at.millis() <= in_sight - 60_000), "{}", text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9*/,#LW a-z-]{0,20}") {
        if let Ok(cron) = text.parse::<Cron>() {
            prop_assert_eq!(cron.to_string().parse::<Cron>(), Ok(cron));
        }
    }
}
