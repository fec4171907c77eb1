//! Lines and columns of what a file says, for messages about its meaning.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, Spanned};

use crate::config::{
    parse::options,
    problem::{Part, Place},
};

/// A line and a column, from 1. Displayed as `7:3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    line: u64,
    column: u64,
}

impl Spot {
    /// Of what the parser says, if it says anything.
    pub(super) fn of(location: Location) -> Option<Self> {
        (location != Location::UNKNOWN).then(|| Self { line: location.line(), column: location.column() })
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A file's values without their contents.
pub(super) struct Tree(Spanned<Node>);

/// One value.
enum Node {
    Scalar,
    List(Vec<Spanned<Node>>),
    Mapping(Vec<(Spanned<String>, Spanned<Node>)>),
}

/// What of a value is looked for at a spot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sought {
    /// A key.
    Key,
    /// A mapping as a whole.
    Mapping,
    /// A value that is no mapping, or else anything.
    Value,
}

impl Tree {
    /// The tree of a text that is YAML.
    pub(super) fn of(text: &str) -> Option<Self> {
        serde_saphyr::from_str_with_options(text, options()).ok().map(Self)
    }

    /// Where a place is: the key where it has one, else the value; the nearest that exists.
    pub(super) fn locate(&self, place: &Place) -> Option<Spot> {
        let mut node = &self.0;
        let mut location = node.referenced;
        for part in place.parts() {
            let found = match (part, &node.value) {
                (Part::Field(name), Node::Mapping(entries)) => {
                    entries.iter().find(|(key, _)| key.value == *name).map(|(key, value)| (key.referenced, value))
                }
                (Part::Index(index), Node::List(elements)) => {
                    elements.get(*index).map(|element| (element.referenced, element))
                }
                (Part::Field(_) | Part::Index(_), Node::Scalar | Node::List(_) | Node::Mapping(_)) => None,
            };
            let Some((at, next)) = found else { break };
            (location, node) = (at, next);
        }
        Spot::of(location)
    }

    /// The place of what begins at a spot.
    pub(super) fn place_at(&self, spot: Spot, sought: Sought) -> Option<Place> {
        let exact = find(&self.0, &Place::default(), spot, sought);
        exact.or_else(|| (sought == Sought::Value).then(|| find(&self.0, &Place::default(), spot, Sought::Mapping))?)
    }
}

fn find(node: &Spanned<Node>, place: &Place, spot: Spot, sought: Sought) -> Option<Place> {
    let here = |location: Location| Spot::of(location) == Some(spot);
    let whole = match sought {
        Sought::Key => false,
        Sought::Mapping => matches!(node.value, Node::Mapping(_)),
        Sought::Value => !matches!(node.value, Node::Mapping(_)),
    };
    let below = match &node.value {
        Node::Scalar => None,
        Node::List(elements) => {
            elements.iter().enumerate().find_map(|(index, element)| find(element, &place.index(index), spot, sought))
        }
        Node::Mapping(entries) => entries.iter().find_map(|(key, value)| {
            let inside = place.field(&key.value);
            if sought == Sought::Key && here(key.referenced) {
                return Some(inside);
            }
            find(value, &inside, spot, sought)
        }),
    };
    below.or_else(|| (whole && here(node.referenced)).then(|| place.clone()))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

macro_rules! scalars {
    ($($method:ident: $type:ty),*) => {
        $(fn $method<E: de::Error>(self, _: $type) -> Result<Node, E> { Ok(Node::Scalar) })*
    };
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    scalars!(visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128);
    scalars!(visit_f64: f64, visit_str: &str);

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element()? {
            elements.push(element);
        }
        Ok(Node::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }
}
