//! The fields of a secret that a remote store keeps as a JSON object: pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::value::offers;
use super::{Offer, Secret, SecretError};
use crate::model::Timestamp;

/// The field that is read where a reference names none.
pub(super) const FIELD: &str = "password";

#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Fields(BTreeMap<String, Field>);

impl Fields {
    /// The password in `field`, with the user and the former password that stand beside it.
    pub fn offers(
        mut self,
        source: &str,
        version: &str,
        field: &str,
        written: Option<jiff::Timestamp>,
    ) -> Result<Vec<Offer>, SecretError> {
        let mut text = |name: &str| match self.0.remove(name) {
            Some(Field(Some(secret))) => Some(secret.expose().to_owned()),
            _ => None,
        };
        let user = text("user").or_else(|| text("username"));
        let former = text("previous").filter(|_| field != "previous");
        let password = match self.0.remove(field) {
            Some(Field(Some(secret))) => secret,
            Some(Field(None)) => {
                return Err(SecretError::Malformed(format!(
                    "{source}: this field is not a string; write the password in quotes"
                )));
            }
            None => {
                let names: Vec<&str> = self.0.keys().map(String::as_str).filter(|name| is_word(name)).collect();
                return Err(SecretError::NotFound(format!(
                    "{source}: the secret is there and has no field of that name; it has: {}",
                    if names.is_empty() { "none to choose from".to_owned() } else { names.join(", ") }
                )));
            }
        };
        // `vault kv put x password=@file` and `aws --secret-string file://x` keep the newline at the file's end.
        let password = password.expose();
        let password = password.strip_suffix('\n').unwrap_or(password).to_owned();
        let mut all = offers(source, version, user, password, former)?;
        let changed = written.map(|at| Timestamp(at.as_microsecond()));
        all.iter_mut().for_each(|offer| offer.changed = changed);
        Ok(all)
    }
}

/// Fit to be shown: what people call a field, and no value that landed where a name belongs.
pub(super) fn is_word(name: &str) -> bool {
    name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// A value of a secret, wiped when dropped. None: not a string.
pub(super) struct Field(pub Option<Secret>);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field(Some(Secret::new(text))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Field, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }
}
