//! Journals of earlier releases, brought to the form of this one.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use serde_json::{Value, json};

use crate::store::{
    error::StoreError,
    open::{TABLES_OF_3, VERSION},
};

/// Brings a journal to the present form, all of it or nothing. One of a later release was refused before.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sqlite = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sqlite)?;
    if found >= VERSION {
        return Ok(());
    }
    let damaged = |detail: &str| StoreError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
    transaction.execute_batch(TABLES_OF_3).map_err(sqlite)?;
    let columns: &[&str] = if found < 2 { &["applied", "intent"] } else { &[] };
    for column in columns {
        let sql = format!("SELECT name, {column} FROM services WHERE {column} IS NOT NULL");
        let mut statement = transaction.prepare(&sql).map_err(sqlite)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
        let rows: Vec<(String, String)> = rows.map_err(sqlite)?.collect::<Result<_, _>>().map_err(sqlite)?;
        for (name, text) in rows {
            let record = serde_json::from_str(&text).ok().and_then(second_form);
            let record = record.ok_or_else(|| damaged(&format!("the weights of {name} cannot be read")))?;
            let sql = format!("UPDATE services SET {column} = ?2 WHERE name = ?1");
            transaction.execute(&sql, (&name, record.to_string())).map_err(sqlite)?;
        }
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}

/// A service's record of version 1, in which a split said who owns which bucket and a version's place was its index.
fn second_form(mut record: Value) -> Option<Value> {
    let fields = record.as_object_mut()?;
    let split = fields.remove("split")?;
    let (offset, threshold) = (split.get("offset")?.as_u64()?, split.get("threshold")?.as_u64()?);
    let versions = fields.get("versions")?.as_array()?.iter();
    let places: Option<serde_json::Map<_, _>> =
        versions.zip(0_u8..).map(|(name, place)| Some((name.as_str()?.to_owned(), json!(place)))).collect();
    fields.insert("places".to_owned(), Value::Object(places?));
    fields.insert("buckets".to_owned(), json!(format!("0/1@{offset}+{threshold}")));
    Some(record)
}

#[cfg(test)]
mod tests {
    use crate::{
        model::kernel::Split,
        store::{Journal, ServiceRecord},
    };

    const OLD: &str = r#"{"versions":["v1","v2"],"weights":{"v1":89.5,"v2":10.5},"stable":"v1",
        "split":{"offset":16000,"threshold":1720},"epoch":7,"rollout":3}"#;

    #[test]
    fn a_journal_of_the_first_form_is_read_as_it_was_meant() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        let journal = Journal::open(&path).expect("a journal");
        let connection = journal.connection();
        connection.execute("INSERT INTO services (name, applied) VALUES ('a', ?1)", [OLD]).expect("written");
        connection.execute_batch("DROP TABLE applied; PRAGMA user_version = 1;").expect("written");
        drop(journal);
        let journal = Journal::open(&path).expect("an older journal is brought to this form");
        let applied: ServiceRecord = journal.services().expect("readable").remove(0).applied.expect("applied");
        assert_eq!(applied.buckets.split(), Some(Split { offset: 16_000, threshold: 1_720 }));
        assert_eq!(applied.places.values().copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!((applied.epoch, applied.rollout), (7, 3));
        drop(journal);
        assert!(Journal::open(&path).is_ok());
    }
}
