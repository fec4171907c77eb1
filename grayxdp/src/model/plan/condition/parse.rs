//! From text to a tree in which every operator has operands of its kind.

/// Parentheses and signs within each other.
const MAX_DEPTH: usize = 64;

/// A tree.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Number(f64),
    Truth(bool),
    /// The only value; within `all` and `any` the one at hand.
    Result,
    At(usize),
    Call(Function, Box<Self>),
    /// The number of values.
    Count,
    Each(Each, Box<Self>),
    Not(Box<Self>),
    Negative(Box<Self>),
    Binary(Operator, Box<Self>, Box<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    AsFloat,
    AsInt,
    IsNan,
    IsInf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    All,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    Plus,
    Minus,
    Times,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Truth,
}

impl Operator {
    /// By precedence, the weakest first.
    const LEVELS: [&'static [Self]; 5] = [
        &[Self::Or],
        &[Self::And],
        &[Self::Less, Self::LessOrEqual, Self::Greater, Self::GreaterOrEqual, Self::Equal, Self::NotEqual],
        &[Self::Plus, Self::Minus],
        &[Self::Times, Self::Over],
    ];

    const fn sign(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Times => "*",
            Self::Over => "/",
        }
    }
}

/// A word, a number or a sign, and where it begins.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    text: &'a str,
    at: usize,
}

pub(super) fn parse(text: &str) -> Result<Expression, String> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0, in_each: false };
    if parser.tokens.is_empty() {
        return Err("it is empty".to_owned());
    }
    let (expression, kind) = parser.level(0)?;
    if let Some(rest) = parser.peek() {
        return Err(unexpected(rest));
    }
    match kind {
        Kind::Truth => Ok(expression),
        Kind::Number => Err("it is a number, not true or false".to_owned()),
    }
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len() + 1;
        let length = match first {
            '0'..='9' | '.' => number_length(rest),
            'a'..='z' | 'A'..='Z' => rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len()),
            _ if ["||", "&&", "<=", ">=", "==", "!="].iter().any(|sign| rest.starts_with(sign)) => 2,
            '<' | '>' | '!' | '+' | '-' | '*' | '/' | '(' | ')' | '[' | ']' => 1,
            _ => return Err(unexpected(Token { text: &rest[..first.len_utf8()], at })),
        };
        tokens.push(Token { text: &rest[..length], at });
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let follows = |at: usize| match bytes[at] {
        b'0'..=b'9' | b'.' | b'e' | b'E' => true,
        b'+' | b'-' => matches!(bytes[at - 1], b'e' | b'E'),
        _ => false,
    };
    (1..bytes.len()).find(|at| !follows(*at)).unwrap_or(bytes.len())
}

fn unexpected(token: Token<'_>) -> String {
    format!("`{}` at character {} is not expected", token.text, token.at)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
    in_each: bool,
}

type Parsed = Result<(Expression, Kind), String>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).copied()
    }

    fn take(&mut self) -> Result<Token<'a>, String> {
        let token = self.peek().ok_or("something is missing at its end")?;
        self.next += 1;
        Ok(token)
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        let token = self.take()?;
        if token.text == text { Ok(()) } else { Err(unexpected(token)) }
    }

    fn level(&mut self, level: usize) -> Parsed {
        let Some(operators) = Operator::LEVELS.get(level) else { return self.unary() };
        let (mut left, mut kind) = self.level(level + 1)?;
        while let Some(operator) = self.peek().and_then(|token| operators.iter().find(|o| o.sign() == token.text)) {
            self.next += 1;
            let (right, other) = self.level(level + 1)?;
            kind = result_kind(*operator, kind, other)?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok((left, kind))
    }

    fn unary(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} parentheses within each other"));
        }
        let parsed = match self.peek().map(|token| token.text) {
            Some("!") => {
                self.next += 1;
                match self.unary()? {
                    (inner, Kind::Truth) => Ok((Expression::Not(Box::new(inner)), Kind::Truth)),
                    (_, Kind::Number) => Err("`!` needs true or false behind it".to_owned()),
                }
            }
            Some("-") => {
                self.next += 1;
                match self.unary()? {
                    (inner, Kind::Number) => Ok((Expression::Negative(Box::new(inner)), Kind::Number)),
                    (_, Kind::Truth) => Err("`-` needs a number behind it".to_owned()),
                }
            }
            _ => self.primary(),
        };
        self.depth -= 1;
        parsed
    }

    fn primary(&mut self) -> Parsed {
        let token = self.take()?;
        match token.text {
            "(" => {
                let inner = self.level(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            "true" => Ok((Expression::Truth(true), Kind::Truth)),
            "false" => Ok((Expression::Truth(false), Kind::Truth)),
            "result" => self.result(),
            "asFloat" => self.call(Function::AsFloat, Kind::Number),
            "asInt" => self.call(Function::AsInt, Kind::Number),
            "isNaN" => self.call(Function::IsNan, Kind::Truth),
            "isInf" => self.call(Function::IsInf, Kind::Truth),
            "len" => {
                self.expect("(")?;
                self.expect("result")?;
                self.expect(")")?;
                Ok((Expression::Count, Kind::Number))
            }
            "all" => self.each(Each::All),
            "any" => self.each(Each::Any),
            text if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                let number = text.parse().map_err(|_| format!("`{text}` at character {} is no number", token.at))?;
                Ok((Expression::Number(number), Kind::Number))
            }
            text if text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                Err(format!("`{text}` at character {} is not known", token.at))
            }
            _ => Err(unexpected(token)),
        }
    }

    fn result(&mut self) -> Parsed {
        if self.peek().is_none_or(|token| token.text != "[") {
            return Ok((Expression::Result, Kind::Number));
        }
        self.next += 1;
        let token = self.take()?;
        let index = token.text.parse();
        let index = index.map_err(|_| format!("`{}` at character {} is not an index", token.text, token.at))?;
        self.expect("]")?;
        Ok((Expression::At(index), Kind::Number))
    }

    fn call(&mut self, function: Function, kind: Kind) -> Parsed {
        self.expect("(")?;
        let (inner, inner_kind) = self.level(0)?;
        self.expect(")")?;
        match inner_kind {
            Kind::Number => Ok((Expression::Call(function, Box::new(inner)), kind)),
            Kind::Truth => Err("a function needs a number between its parentheses".to_owned()),
        }
    }

    fn each(&mut self, each: Each) -> Parsed {
        if self.in_each {
            return Err("all and any do not nest".to_owned());
        }
        self.in_each = true;
        self.expect("(")?;
        let (inner, kind) = self.level(0)?;
        self.expect(")")?;
        self.in_each = false;
        match kind {
            Kind::Truth => Ok((Expression::Each(each, Box::new(inner)), Kind::Truth)),
            Kind::Number => Err("all and any need a condition between their parentheses".to_owned()),
        }
    }
}

fn result_kind(operator: Operator, left: Kind, right: Kind) -> Result<Kind, String> {
    let sign = operator.sign();
    match operator {
        Operator::Or | Operator::And => match (left, right) {
            (Kind::Truth, Kind::Truth) => Ok(Kind::Truth),
            (Kind::Number, _) | (_, Kind::Number) => Err(format!("`{sign}` needs true or false on both sides")),
        },
        Operator::Equal | Operator::NotEqual if left == right => Ok(Kind::Truth),
        Operator::Equal | Operator::NotEqual => Err(format!("`{sign}` needs the same kind on both sides")),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            numbers(sign, left, right).map(|()| Kind::Truth)
        }
        Operator::Plus | Operator::Minus | Operator::Times | Operator::Over => {
            numbers(sign, left, right).map(|()| Kind::Number)
        }
    }
}

fn numbers(sign: &str, left: Kind, right: Kind) -> Result<(), String> {
    match (left, right) {
        (Kind::Number, Kind::Number) => Ok(()),
        (Kind::Truth, _) | (_, Kind::Truth) => Err(format!("`{sign}` needs numbers on both sides")),
    }
}
