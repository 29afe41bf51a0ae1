//! What the field rules let pass and what they refuse, rule by rule.

use coalition_proto::common::{Channel, Identifier, IdentifierType, Money, PosContext};
use coalition_proto::earn::{
    CheckAmounts, EarnRequest, ReturnEarnRequest, earn_request, return_earn_request,
};
use coalition_proto::member::{EnrollRequest, ListActivityRequest};
use coalition_proto::partner::{CreatePartnerRequest, GetPartnerRequest, get_partner_request};
use coalition_proto::redeem::{QuoteRequest, RedeemRequest, quote_request, redeem_request};
use coalition_proto::sandbox::{AdvanceClockRequest, SetClockRequest};
use coalition_proto::settlement::{
    ComputeSettlementRequest, CutWindowRequest, ListPositionsRequest, NettingMethod, VerifyRequest,
};
use coalition_proto::validate::check;
use prost_types::{Duration, Timestamp};
use verdicts::{passes, refuses};

#[path = "support/verdicts.rs"]
mod verdicts;

const REQUEST_ID: &str = "0198f9d2-6b1a-7c3e-8f00-3b9d1c5e7a42";
const MEMBER: &str = "mem_01h455vb4pex5vsknk084sn02q";
const PARTNER: &str = "ptr_01h455vb4pex5vsknk084sn02q";
const WINDOW: &str = "win_01h455vb4pex5vsknk084sn02q";
const LARGEST: i64 = 1_000_000_000_000;

#[test]
fn a_request_that_breaks_nothing_passes() {
    passes(&earn());
    passes(&redeem());
    passes(&CutWindowRequest {
        request_id: REQUEST_ID.to_owned(),
        expected_window_id: String::new(),
    });
    passes(&VerifyRequest {});
}

#[test]
fn request_ids_are_uuids() {
    let with = |request_id: &str| EarnRequest {
        request_id: request_id.to_owned(),
        ..earn()
    };
    for good in [
        "00000000-0000-0000-0000-000000000000",
        "0198F9D2-6B1A-7C3E-8F00-3B9D1C5E7A42",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ] {
        passes(&with(good));
    }
    for bad in [
        "",
        "0198f9d26b1a7c3e8f003b9d1c5e7a42",
        "0198f9d2-6b1a-7c3e-8f00-3b9d1c5e7a4",
        "0198f9d2-6b1a-7c3e-8f00-3b9d1c5e7a421",
        "0198f9d2-6b1a-7c3e-8f00-3b9d1c5e7a4g",
        "0198f9d2_6b1a_7c3e_8f00_3b9d1c5e7a42",
        "{0198f9d2-6b1a-7c3e-8f00-3b9d1c5e7a4",
        "0198f9d2-6b1a-7c3e-8f00-3b9d1c5e7a4\n",
        "0198f9d2-6b1a-7c3e-8f00-3b9d1c5e7é",
    ] {
        refuses(&with(bad), &["request_id must be a UUID"]);
    }
}

#[test]
fn ids_have_their_prefix_and_26_characters() {
    let with = |partner_id: &str| EarnRequest {
        partner_id: partner_id.to_owned(),
        ..earn()
    };
    passes(&with(""));
    passes(&with("ptr_7zzzzzzzzzzzzzzzzzzzzzzzzz"));
    for bad in [
        "ptr_",
        "01h455vb4pex5vsknk084sn02q",
        MEMBER,
        "PTR_01h455vb4pex5vsknk084sn02q",
        "ptr_01H455VB4PEX5VSKNK084SN02Q",
        "ptr_81h455vb4pex5vsknk084sn02q",
        "ptr_01h455vb4pex5vsknk084sn02",
        "ptr_01h455vb4pex5vsknk084sn02qq",
        "ptr_01h455vb4pex5vsknk084sn02l",
        "ptr_01h455vb4pex5vsknk084sn02q\n",
        " ptr_01h455vb4pex5vsknk084sn02q",
        "ptr_01h455vb4pex5vsknk084sn02q' or 1=1",
        "partners/-",
    ] {
        refuses(
            &with(bad),
            &["partner_id must be an id of the form ptr_ and 26 characters"],
        );
    }
}

#[test]
fn parties_are_partners_or_the_operator() {
    let with = |party: &str| ListPositionsRequest {
        party: party.to_owned(),
        ..ListPositionsRequest::default()
    };
    for good in ["", "OPERATOR", PARTNER] {
        passes(&with(good));
    }
    for bad in ["operator", "OPERATORS", "OPERATOR ", MEMBER, "-"] {
        refuses(
            &with(bad),
            &["party must match ^(OPERATOR|ptr_[0-7][0-9a-hjkmnp-tv-z]{25})$"],
        );
    }
}

#[test]
fn what_is_required_is_missed() {
    refuses(
        &EarnRequest::default(),
        &[
            "request_id must be a UUID",
            "context is required",
            "amounts is required",
            "member one of its fields is required",
        ],
    );
    refuses(
        &EarnRequest {
            context: Some(PosContext::default()),
            amounts: Some(CheckAmounts::default()),
            ..earn()
        },
        &[
            "context.check_id is required here",
            "amounts.gross is required",
        ],
    );
}

#[test]
fn a_check_number_is_required_to_earn_and_not_to_return() {
    passes(&ReturnEarnRequest {
        request_id: REQUEST_ID.to_owned(),
        partner_id: String::new(),
        original: Some(return_earn_request::Original::OriginalCheckId(
            "4711".to_owned(),
        )),
        returned: Some(euros(1)),
        context: Some(PosContext::default()),
    });
}

#[test]
fn points_and_amounts_have_bounds() {
    for (points, say) in [
        (i64::MIN, "points must be at least 1"),
        (-1, "points must be at least 1"),
        (0, "points must be at least 1"),
        (LARGEST + 1, "points must be at most 1000000000000"),
        (i64::MAX, "points must be at most 1000000000000"),
    ] {
        refuses(&RedeemRequest { points, ..redeem() }, &[say]);
    }
    for points in [1, LARGEST] {
        passes(&RedeemRequest { points, ..redeem() });
    }

    let gross = |amount| EarnRequest {
        amounts: Some(CheckAmounts {
            gross: Some(euros(amount)),
            tip: Some(euros(amount)),
            ..CheckAmounts::default()
        }),
        ..earn()
    };
    passes(&gross(0));
    passes(&gross(LARGEST));
    for amount in [-1, i64::MIN] {
        refuses(
            &gross(amount),
            &[
                "amounts.gross.amount must be at least 0 here",
                "amounts.tip.amount must be at least 0 here",
            ],
        );
    }
    for amount in [LARGEST + 1, i64::MAX] {
        refuses(
            &gross(amount),
            &[
                "amounts.gross.amount must be at most 1000000000000 here",
                "amounts.tip.amount must be at most 1000000000000 here",
            ],
        );
    }

    let due = |amount| QuoteRequest {
        member: Some(quote_request::Member::MemberId(MEMBER.to_owned())),
        ask: Some(quote_request::Ask::AmountDue(euros(amount))),
        ..QuoteRequest::default()
    };
    passes(&due(1));
    refuses(&due(0), &["amount_due.amount must be at least 1 here"]);
    refuses(
        &QuoteRequest {
            ask: Some(quote_request::Ask::Points(0)),
            ..due(1)
        },
        &["points must be at least 1"],
    );
}

#[test]
fn currencies_are_three_upper_case_letters() {
    for bad in ["", "eur", "EU", "EURO", "E R", "ÄÖÜ"] {
        let mut request = redeem();
        request.check_total = Some(Money {
            currency_code: bad.to_owned(),
            amount: 1,
        });
        refuses(
            &request,
            &["check_total.currency_code must match ^[A-Z]{3}$"],
        );
    }
}

#[test]
fn texts_are_bounded_in_characters_and_hold_no_control_characters() {
    let location = |location: String| EarnRequest {
        context: Some(PosContext {
            location,
            ..context()
        }),
        ..earn()
    };
    passes(&location("Straße am Markt, Café “Süß” 🍰".to_owned()));
    passes(&location("é".repeat(64)));
    passes(&location("🍰".repeat(64)));
    for long in ["a".repeat(65), "🍰".repeat(65), "é".repeat(100_000)] {
        refuses(
            &location(long),
            &["context.location must have at most 64 characters"],
        );
    }
    for bad in ["\0", "a\nb", "\u{7f}", "ü\u{85}", "\u{1b}[31m"] {
        refuses(
            &location(bad.to_owned()),
            &["context.location must not have control characters"],
        );
    }
}

#[test]
fn identifiers_are_neither_empty_nor_untyped() {
    let with = |kind: i32, value: &str| EarnRequest {
        member: Some(earn_request::Member::Identifier(Identifier {
            r#type: kind,
            value: value.to_owned(),
        })),
        ..earn()
    };
    passes(&with(IdentifierType::Qr.into(), "x"));
    refuses(
        &with(IdentifierType::Unspecified.into(), "x"),
        &["identifier.type must not be IDENTIFIER_TYPE_UNSPECIFIED"],
    );
    for unknown in [-1, 6, i32::MAX] {
        refuses(
            &with(unknown, "x"),
            &["identifier.type must be one of the values known to this network"],
        );
    }
    refuses(
        &with(IdentifierType::Card.into(), ""),
        &["identifier.value must not be empty"],
    );
}

#[test]
fn an_optional_enum_may_be_left_out_but_not_unspecified() {
    let with = |channel| EarnRequest {
        context: Some(PosContext {
            channel,
            ..context()
        }),
        ..earn()
    };
    passes(&with(None));
    passes(&with(Some(Channel::Kiosk.into())));
    refuses(
        &with(Some(Channel::Unspecified.into())),
        &["context.channel must not be CHANNEL_UNSPECIFIED"],
    );
}

#[test]
fn business_dates_look_like_dates() {
    let with = |date: &str| EarnRequest {
        context: Some(PosContext {
            business_date: date.to_owned(),
            ..context()
        }),
        ..earn()
    };
    for good in ["", "2026-11-22", "0001-01-01", "9999-12-31"] {
        passes(&with(good));
    }
    for bad in [
        "2026-13-01",
        "2026-00-10",
        "2026-1-1",
        "2026-11-32",
        "22.11.2026",
        "2026-11-22T00",
    ] {
        refuses(
            &with(bad),
            &[
                "context.business_date must match ^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$",
            ],
        );
    }
}

#[test]
fn times_lie_in_the_years_1_to_9999() {
    let with = |seconds, nanos| SetClockRequest {
        request_id: REQUEST_ID.to_owned(),
        time: Some(Timestamp { seconds, nanos }),
    };
    for (seconds, nanos) in [(0, 0), (-62_135_596_800, 0), (253_402_300_799, 999_999_999)] {
        passes(&with(seconds, nanos));
    }
    for (seconds, nanos) in [
        (-62_135_596_801, 0),
        (253_402_300_800, 0),
        (i64::MIN, 0),
        (i64::MAX, 0),
        (0, -1),
        (0, 1_000_000_000),
    ] {
        refuses(
            &with(seconds, nanos),
            &["time must be a time of the years 1 to 9999, with nanos from 0 to 999999999"],
        );
    }
}

#[test]
fn durations_are_well_formed_and_bounded() {
    let with = |seconds, nanos| AdvanceClockRequest {
        request_id: REQUEST_ID.to_owned(),
        duration: Some(Duration { seconds, nanos }),
    };
    for (seconds, nanos) in [(0, 1), (1, 0), (316_224_000, 0)] {
        passes(&with(seconds, nanos));
    }
    for (seconds, nanos) in [(0, 0), (-1, 0), (0, -1)] {
        refuses(
            &with(seconds, nanos),
            &["duration must be more than 0 seconds"],
        );
    }
    refuses(
        &with(316_224_000, 1),
        &["duration must be at most 316224000 seconds"],
    );
    for (seconds, nanos) in [
        (1, -1),
        (0, 1_000_000_000),
        (i64::MAX, 0),
        (i64::MIN, i32::MIN),
    ] {
        refuses(
            &with(seconds, nanos),
            &["duration must be a duration of at most 10000 years, seconds and nanos of one sign"],
        );
    }
}

#[test]
fn lists_are_bounded_and_their_items_are_checked() {
    let with = |window_ids: Vec<String>| ComputeSettlementRequest {
        request_id: REQUEST_ID.to_owned(),
        window_ids,
        netting: NettingMethod::Gross.into(),
        validate_only: false,
    };
    let window = |number: usize| format!("win_{number:026}");
    passes(&with((0..100).map(window).collect()));
    refuses(&with(Vec::new()), &["window_ids must not be empty"]);
    refuses(
        &with((0..101).map(window).collect()),
        &["window_ids must have at most 100 items"],
    );
    refuses(
        &with(vec![window(1), window(2), window(1)]),
        &["window_ids must not have the same item twice"],
    );
    refuses(
        &with(vec![WINDOW.to_owned(), PARTNER.to_owned(), String::new()]),
        &[
            "window_ids[1] must be an id of the form win_ and 26 characters",
            "window_ids[2] must be an id of the form win_ and 26 characters",
        ],
    );

    let identifiers = |count| EnrollRequest {
        request_id: REQUEST_ID.to_owned(),
        identifiers: vec![
            Identifier {
                r#type: IdentifierType::Card.into(),
                value: String::new(),
            };
            count
        ],
    };
    refuses(
        &identifiers(2),
        &[
            "identifiers[0].value must not be empty",
            "identifiers[1].value must not be empty",
        ],
    );
    refuses(
        &identifiers(1_000_000),
        &["identifiers must have at most 8 items"],
    );
}

#[test]
fn page_sizes_are_not_negative() {
    let with = |page_size| ListActivityRequest {
        member_id: MEMBER.to_owned(),
        page_size,
        ..ListActivityRequest::default()
    };
    for good in [0, 1, 1_000, i32::MAX] {
        passes(&with(good));
    }
    for bad in [-1, i32::MIN] {
        refuses(&with(bad), &["page_size must be at least 0"]);
    }
}

#[test]
fn codes_are_short_handles() {
    for good in ["a", "7", "trattoria-roma", "a_b", &"x".repeat(32)] {
        passes(&GetPartnerRequest {
            key: Some(get_partner_request::Key::Code(good.to_owned())),
        });
    }
    for bad in ["", "-a", "_a", "A", "a b", "é", &"x".repeat(33)] {
        refuses(
            &CreatePartnerRequest {
                request_id: REQUEST_ID.to_owned(),
                code: bad.to_owned(),
                display_name: "Trattoria Roma".to_owned(),
                kind: 1,
            },
            &["code must match ^[a-z0-9][a-z0-9_-]{0,31}$"],
        );
    }
}

#[test]
fn violations_never_repeat_what_was_sent() {
    let secret = "+4930123456\u{7}";
    let request = EarnRequest {
        request_id: secret.to_owned(),
        partner_id: secret.to_owned(),
        member: Some(earn_request::Member::Identifier(Identifier {
            r#type: 0,
            value: secret.to_owned(),
        })),
        ..earn()
    };
    let violations = check(&request).expect_err("nearly every field is wrong");
    assert_eq!(violations.len(), 4);
    for violation in violations {
        assert!(!violation.description.contains("4930"), "{violation:?}");
        assert!(!violation.field.contains("4930"), "{violation:?}");
    }
}

fn earn() -> EarnRequest {
    EarnRequest {
        request_id: REQUEST_ID.to_owned(),
        partner_id: PARTNER.to_owned(),
        member: Some(earn_request::Member::MemberId(MEMBER.to_owned())),
        context: Some(context()),
        amounts: Some(CheckAmounts {
            gross: Some(euros(4_250)),
            discounts: Some(euros(250)),
            ..CheckAmounts::default()
        }),
    }
}

fn redeem() -> RedeemRequest {
    RedeemRequest {
        request_id: REQUEST_ID.to_owned(),
        partner_id: PARTNER.to_owned(),
        member: Some(redeem_request::Member::MemberId(MEMBER.to_owned())),
        points: 500,
        context: Some(context()),
        check_total: Some(euros(4_250)),
    }
}

fn context() -> PosContext {
    PosContext {
        location: "berlin-mitte".to_owned(),
        terminal: "till-3".to_owned(),
        business_date: "2026-11-22".to_owned(),
        channel: Some(Channel::InStore.into()),
        occurred_at: Some(Timestamp {
            seconds: 1_795_359_600,
            nanos: 0,
        }),
        check_id: "4711".to_owned(),
        ..PosContext::default()
    }
}

fn euros(cents: i64) -> Money {
    Money {
        currency_code: "EUR".to_owned(),
        amount: cents,
    }
}
