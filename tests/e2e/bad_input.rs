//! Bad input in every field of every RPC, made from the descriptors.
//!
//! For each RPC there are good requests ([`bases`]) that the network answers; each is then sent with
//! one place changed ([`mutations`]). What must come back is worked out from the annotations
//! ([`oracle`]): INVALID_ARGUMENT that names just the fields that break a rule; where none does, an
//! answer, a refusal of that very field, or a reason that the RPC is documented to give ([`schema`]).
//! Never INTERNAL, but for bytes that are no message (rows 35, 39 and 64 of the security table), never
//! UNKNOWN, a panic, or a connection that breaks. An RPC without a good request, or a field that no
//! good request sets, fails the test. `COALITION_TEST_FULL=1` puts every text into every field.
//!
//! Bytes that are no request at all are the matter of [`bytes`].

mod bases;
mod bounds;
mod bytes;
mod mutations;
mod oracle;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use coalition_proto::common::ErrorReason;
use coalition_proto::policy;
use coalition_proto::validate::MAX_VIOLATIONS;
use coalition_rpc::message_size::MESSAGE_MAX_BYTES;
use coalition_rpc::status::reason::row;
use coalition_tests::{Network, Refusal, both_engines};
use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};
use tonic::Code;

use crate::hostile::send;
use crate::told;
use bases::{Base, World};
use mutations::{Mutation, mutations};
use oracle::Oracle;
use schema::{Schema, inner, paths};

both_engines!(
    rows_13_23_26_to_29_33_36_and_41_to_43_every_field_at_tills,
    rows_13_23_26_to_29_33_36_and_41_to_43_every_field_in_offices,
    every_field_about_the_clock,
);

/// Most wrong answers that are told in full.
const TOLD_MAX: usize = 60;

/// Whether all there is should be tried, however long it takes.
fn full() -> bool {
    std::env::var_os("COALITION_TEST_FULL").is_some_and(|full| full == "1")
}

async fn rows_13_23_26_to_29_33_36_and_41_to_43_every_field_at_tills(network: &Network) {
    Box::pin(every_field(network, true)).await;
}

async fn rows_13_23_26_to_29_33_36_and_41_to_43_every_field_in_offices(network: &Network) {
    Box::pin(every_field(network, false)).await;
}

/// Of the RPCs that tills call all day, or of the others.
async fn every_field(network: &Network, tills: bool) {
    let schema = Schema::read();
    let world = Box::pin(World::furnish(network, &schema)).await;
    let bases = Box::pin(world.bases()).await;
    let clock = world.clock();
    every_rpc_has_its_requests(&schema, bases.iter().chain(&clock));
    let mut trial = Trial::new(&world, &schema);
    let of_tills = |base: &&Base| {
        let packages = [".earn.", ".redeem.", ".member."];
        packages.iter().any(|package| base.path.contains(package)) == tills
    };
    for base in bases.iter().filter(of_tills) {
        Box::pin(trial.run(base)).await;
    }
    trial.done();
    network.assert_books_balance().await;
    world.still_serves().await;
}

/// In a network of its own, where time may run to its end.
async fn every_field_about_the_clock(network: &Network) {
    let schema = Schema::read();
    let world = Box::pin(World::furnish(network, &schema)).await;
    let mut trial = Trial::new(&world, &schema);
    for base in &world.clock() {
        Box::pin(trial.run(base)).await;
    }
    trial.done();
}

/// No RPC and no field is forgotten.
fn every_rpc_has_its_requests<'a>(schema: &Schema, bases: impl Iterator<Item = &'a Base>) {
    let mut set: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for base in bases {
        collect(&base.message, "", set.entry(base.path).or_default());
    }
    for policy in policy::all() {
        let Some(set) = set.get(policy.method) else {
            panic!(
                "{} has no good request: write one in `bases`",
                policy.method
            );
        };
        let mut there = BTreeSet::new();
        paths(&schema.request(policy.method), "", &mut there);
        let missed: Vec<&String> = there.difference(set).collect();
        assert!(
            missed.is_empty(),
            "{}: no good request sets {missed:?}",
            policy.method
        );
    }
}

/// The paths of fields that are set, items without their number.
fn collect(message: &DynamicMessage, prefix: &str, set: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        let path = format!("{prefix}{}", field.name());
        if inner(&field).is_some() {
            let one = value.as_message().into_iter();
            let items = value.as_list().unwrap_or_default().iter();
            for message in one.chain(items.filter_map(Value::as_message)) {
                collect(message, &format!("{path}."), set);
            }
        }
        set.insert(path);
    }
}

/// Sends what is bad and keeps count.
struct Trial<'a> {
    world: &'a World<'a>,
    schema: &'a Schema,
    oracle: Oracle,
    all: bool,
    tried: BTreeMap<&'static str, usize>,
    /// The same, by row of the security table.
    rows: BTreeMap<u8, usize>,
    answered: usize,
    wrong: Vec<String>,
}

impl<'a> Trial<'a> {
    fn new(world: &'a World<'a>, schema: &'a Schema) -> Self {
        Self {
            world,
            schema,
            oracle: Oracle::new(&schema.pool),
            all: full(),
            tried: BTreeMap::new(),
            rows: BTreeMap::new(),
            answered: 0,
            wrong: Vec::new(),
        }
    }

    async fn run(&mut self, base: &Base) {
        let good = self.world.renewed(base, "").await;
        assert!(
            self.oracle.violations(&good).is_empty(),
            "{}: the good request breaks a rule",
            base.path
        );
        let outcome = send(&base.caller, base.path, good.encode_to_vec()).await;
        if let Err(refusal) = outcome {
            panic!("{}: the good request is refused: {refusal}", base.path);
        }
        let mut changes = mutations(&self.oracle, &good, self.all);
        changes.retain(|change| {
            base.only.is_empty() || base.only.iter().any(|path| change.path.starts_with(path))
        });
        // What moves a clock furthest comes last, in the order that they are made in.
        for change in &changes {
            let message = self.world.renewed(base, &change.path).await;
            let (changed, bytes) = change.of(&message);
            let outcome = send(&base.caller, base.path, bytes).await;
            *self.tried.entry(base.path).or_default() += 1;
            *self.rows.entry(change.row).or_default() += 1;
            self.answered += usize::from(outcome.is_ok());
            if let Err(why) = self.judge(base, change, &changed, outcome.as_ref().err()) {
                let (path, what) = (&change.path, &change.what);
                let outcome = outcome.map_or_else(|refusal| refusal.to_string(), |()| "OK".into());
                self.wrong.push(format!(
                    "{} {path} = {what}: row {}: {why}: {outcome}",
                    base.path, change.row
                ));
            }
        }
    }

    /// Whether this is what a caller may be told.
    fn judge(
        &self,
        base: &Base,
        change: &Mutation,
        message: &DynamicMessage,
        refusal: Option<&Refusal>,
    ) -> Result<(), String> {
        if let Some(refusal) = refusal {
            tells_nothing(refusal)?;
        }
        let expect = |code: Code, reason: ErrorReason| match refusal {
            Some(refusal) if refusal.code == code && refusal.reason == reason.as_reason() => Ok(()),
            _ => Err(format!("expected {code:?} {}", reason.as_reason())),
        };
        if message.encoded_len() > MESSAGE_MAX_BYTES as usize {
            return expect(Code::ResourceExhausted, ErrorReason::MessageTooLarge);
        }
        if change.is_no_message() {
            return expect(Code::Internal, ErrorReason::Internal);
        }
        let others = names_another(base, change, message);
        if others {
            return expect(Code::PermissionDenied, ErrorReason::PermissionDenied);
        }
        let violations = self.oracle.violations(message);
        if !violations.is_empty() {
            expect(Code::InvalidArgument, ErrorReason::InvalidArgument)?;
            let fields = refusal.map(|refusal| &refusal.fields).into_iter().flatten();
            let named: BTreeSet<String> = fields.cloned().collect();
            let all = named == violations;
            let first = violations.len() > MAX_VIOLATIONS / 2 && named.is_subset(&violations);
            return if all || first && !named.is_empty() {
                Ok(())
            } else {
                Err(format!("these break their rule: {violations:?}"))
            };
        }
        let Some(refusal) = refusal else {
            return Ok(());
        };
        let reason = ErrorReason::from_reason(&refusal.reason);
        let reason = reason.ok_or("the reason is none of ours")?;
        if row(reason).code != refusal.code {
            return Err("code and reason do not go together".to_owned());
        }
        if !self.schema.documents(base.path, reason) {
            return Err("the RPC is not documented to answer so".to_owned());
        }
        if refusal.code == Code::InvalidArgument {
            let near = |field: &String| {
                is_near(field, &change.path, message) || disagree(reason, field, &change.path)
            };
            if refusal.fields.is_empty() || !refusal.fields.iter().all(near) {
                return Err("the field is not named".to_owned());
            }
        }
        Ok(())
    }

    fn done(self) {
        let mut sum = 0;
        for (path, tried) in &self.tried {
            let wrong = self.wrong.iter().filter(|line| line.starts_with(path));
            told(&format!(
                "{path}: {tried} inputs tried, {} wrong",
                wrong.count()
            ));
            sum += tried;
        }
        for (row, tried) in self.rows.iter().filter(|(row, _)| **row != 0) {
            let wrong = self.wrong.iter();
            let wrong = wrong.filter(|line| line.contains(&format!(": row {row}: ")));
            told(&format!(
                "row {row}: {tried} inputs tried, {} wrong",
                wrong.count()
            ));
        }
        let wrong = self.wrong.len();
        told(&format!(
            "bad input: {sum} inputs tried ({} of them fine), {wrong} wrong",
            self.answered
        ));
        let shown = self.wrong.iter().take(TOLD_MAX);
        let shown: Vec<&str> = shown.map(String::as_str).collect();
        assert!(wrong == 0, "{wrong} wrong:\n{}", shown.join("\n"));
    }
}

/// Whether somebody of one partner names another: that is denied before anything else is looked at.
fn names_another(base: &Base, change: &Mutation, message: &DynamicMessage) -> bool {
    let asks = ["partner_id", "party"].contains(&change.path.as_str());
    let named = message.get_field_by_name(&change.path);
    let named = named.as_deref().and_then(Value::as_str);
    !base.own.is_empty()
        && asks
        && named.is_some_and(|named| !named.is_empty() && named != base.own)
        && message.has_field_by_name(&change.path)
}

/// Whether `inner` is `outer`, or stands in it.
fn is_within(inner: &str, outer: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Where fields contradict each other, another of them may be the one that is named.
fn disagree(reason: ErrorReason, field: &str, changed: &str) -> bool {
    let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
    match reason {
        // Two terms, or two ends of a leg.
        ErrorReason::AgreementInvalid => !parent.is_empty() && is_within(changed, parent),
        // Two amounts of a check.
        ErrorReason::CurrencyMismatch => {
            name == "currency_code"
                && field.starts_with("amounts.")
                && changed.starts_with("amounts.")
        }
        // More is taken off a check than is on it.
        ErrorReason::InvalidArgument => field == "amounts" && is_within(changed, field),
        _ => false,
    }
}

/// Whether a refusal that names `field` is about what was changed: the field itself, one in it, or the
/// oneof it is one of.
fn is_near(field: &str, changed: &str, message: &DynamicMessage) -> bool {
    if is_within(field, changed) {
        return true;
    }
    // A oneof is named by its own name, where its field would be.
    let (parent, name) = field.rsplit_once('.').unwrap_or(("", field));
    let mut at = message.clone();
    for step in parent.split('.').filter(|step| !step.is_empty()) {
        let step = step.split('[').next().unwrap_or(step);
        let Some(value) = at.get_field_by_name(step) else {
            return false;
        };
        let value = value.into_owned();
        let items = value.as_list().and_then(|items| items.first());
        match value.as_message().or(items.and_then(Value::as_message)) {
            Some(message) => at = message.clone(),
            None => return false,
        }
    }
    let prefix = if parent.is_empty() {
        String::new()
    } else {
        format!("{parent}.")
    };
    at.descriptor()
        .oneofs()
        .filter(|oneof| oneof.name() == name)
        .flat_map(|oneof| oneof.fields().collect::<Vec<_>>())
        .any(|option| is_within(changed, &format!("{prefix}{}", option.name())))
}

/// A refusal says what is ours to say, in bounded size, and nothing of what is behind it.
fn tells_nothing(refusal: &Refusal) -> Result<(), String> {
    if refusal.domain != "coalition" || refusal.details_bytes >= 4_096 || refusal.message.is_empty()
    {
        return Err("not as every refusal has to be".to_owned());
    }
    let words = [
        "panic",
        "sqlx",
        "sqlite",
        "postgres",
        "select ",
        "insert ",
        "unwrap",
        ".rs:",
        "0x00",
        "byte sequence",
    ];
    let text = refusal.message.to_lowercase();
    // Within a word it is an id's: ids are made of letters and digits as they come.
    let tells = |word: &&&str| {
        text.match_indices(**word).any(|(at, _)| {
            let before = text.get(..at).and_then(|before| before.chars().last());
            !before.is_some_and(char::is_alphanumeric)
        })
    };
    match words.iter().find(tells) {
        Some(word) => Err(format!("it tells of {word:?}")),
        None => Ok(()),
    }
}
