//! The names of types, as far as it takes to know where a column ends.

/// Types within types, at most.
pub(super) const DEPTH_MAX: usize = 100;

/// How a type's values lie in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// So many bytes a value.
    Fixed(u64),
    Text,
    Nullable(Box<Type>),
    Array(Box<Type>),
    Tuple(Vec<Type>),
    /// Of values without `NULL`.
    LowCardinality(Box<Type>),
    Variant(Vec<Type>),
    Dynamic,
    /// The types of the paths that have one, in the order of the paths.
    Json(Vec<Type>),
    /// One whose values only the server can tell apart, such as the state of an aggregate function.
    Opaque,
}

impl Type {
    /// Reads a type's name.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn parse(text: &str) -> Result<Type, String> {
        parse(text, 0)
    }

    /// Returns whether a column's end can't be told.
    pub(crate) fn is_opaque(&self) -> bool {
        match self {
            Type::Opaque => true,
            Type::Fixed(_) | Type::Text | Type::Dynamic => false,
            Type::Nullable(inner) | Type::Array(inner) | Type::LowCardinality(inner) => inner.is_opaque(),
            Type::Tuple(inner) | Type::Variant(inner) | Type::Json(inner) => inner.iter().any(Type::is_opaque),
        }
    }
}

fn parse(text: &str, depth: usize) -> Result<Type, String> {
    let text = text.trim();
    if depth > DEPTH_MAX {
        return Err("types lie too deep in one another".to_owned());
    }
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => {
            let inner = rest.strip_suffix(')').ok_or_else(|| format!("the type {:?} has no end", shown(text)))?;
            (name.trim(), split(inner))
        }
        None => (text, Vec::new()),
    };
    let one = || match arguments.as_slice() {
        [inner] => Ok(Box::new(parse(inner, depth + 1)?)),
        _ => Err(format!("the type {:?} should have one inside", shown(text))),
    };
    let elements =
        || arguments.iter().map(|element| parse(unnamed(element).1, depth + 1)).collect::<Result<Vec<_>, _>>();
    let number = |at: usize| arguments.get(at).and_then(|text| text.trim().parse::<u64>().ok());
    Ok(match name {
        "UInt8" | "Int8" | "Bool" | "Enum8" | "Nothing" => Type::Fixed(1),
        "UInt16" | "Int16" | "Date" | "Enum16" | "BFloat16" => Type::Fixed(2),
        "UInt32" | "Int32" | "Float32" | "Date32" | "DateTime" | "DateTime32" | "IPv4" | "Decimal32" | "Time" => {
            Type::Fixed(4)
        }
        "UInt64" | "Int64" | "Float64" | "DateTime64" | "Decimal64" | "Time64" => Type::Fixed(8),
        "UInt128" | "Int128" | "UUID" | "IPv6" | "Decimal128" => Type::Fixed(16),
        "UInt256" | "Int256" | "Decimal256" => Type::Fixed(32),
        "Decimal" => Type::Fixed(match number(0) {
            Some(0..=9) => 4,
            Some(10..=18) => 8,
            Some(19..=38) => 16,
            Some(39..=76) => 32,
            _ => return Err(format!("the type {:?} has no such precision", shown(text))),
        }),
        "FixedString" => Type::Fixed(
            number(0)
                .filter(|length| *length > 0)
                .ok_or_else(|| format!("the type {:?} has no length", shown(text)))?,
        ),
        "String" => Type::Text,
        "Nullable" => Type::Nullable(one()?),
        "Array" => Type::Array(one()?),
        "LowCardinality" => match *one()? {
            Type::Nullable(inner) => Type::LowCardinality(inner),
            inner => Type::LowCardinality(Box::new(inner)),
        },
        "Map" => match elements()? {
            pair if pair.len() == 2 => Type::Array(Box::new(Type::Tuple(pair))),
            _ => return Err(format!("the type {:?} should have two inside", shown(text))),
        },
        "Nested" => Type::Array(Box::new(Type::Tuple(elements()?))),
        "Tuple" if !arguments.is_empty() => Type::Tuple(elements()?),
        "Variant" if !arguments.is_empty() => Type::Variant(elements()?),
        "SimpleAggregateFunction" => match arguments.as_slice() {
            [_, inner] => parse(inner, depth + 1)?,
            _ => Type::Opaque,
        },
        "Point" => point(),
        "Ring" | "LineString" => Type::Array(Box::new(point())),
        "Polygon" | "MultiLineString" => arrays(2),
        "MultiPolygon" => arrays(3),
        "Geometry" => Type::Variant(vec![arrays(1), arrays(2), arrays(3), point(), arrays(2), arrays(1)]),
        "Dynamic" => Type::Dynamic,
        "JSON" => json(&arguments, depth)?,
        name if name.starts_with("Interval") => Type::Fixed(8),
        _ => Type::Opaque,
    })
}

fn point() -> Type {
    Type::Tuple(vec![Type::Fixed(8), Type::Fixed(8)])
}

fn arrays(depth: usize) -> Type {
    (0..depth).fold(point(), |inner, _| Type::Array(Box::new(inner)))
}

/// Reads what is in the brackets of a JSON type: paths with types among settings.
fn json(arguments: &[&str], depth: usize) -> Result<Type, String> {
    let mut typed = Vec::new();
    for argument in arguments {
        let (name, kind) = unnamed(argument);
        let is_setting = argument.trim().starts_with("max_dynamic_") || matches!(name, Some("SKIP"));
        if let (false, Some(name)) = (is_setting, name) {
            typed.push((name.trim_matches('`').to_owned(), parse(kind, depth + 1)?));
        }
    }
    typed.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Type::Json(typed.into_iter().map(|(_, kind)| kind).collect()))
}

/// Splits `name Type` into both; the name is left out where a type stands alone.
fn unnamed(element: &str) -> (Option<&str>, &str) {
    let element = element.trim();
    let mut space = None;
    scan(element, |at, byte| {
        if byte == b' ' && space.is_none() {
            space = Some(at);
        }
    });
    match space {
        Some(at) => (Some(&element[..at]), element[at..].trim_start()),
        None => (None, element),
    }
}

/// Splits at the commas that stand in no brackets and no quotes.
fn split(text: &str) -> Vec<&str> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let (mut parts, mut start) = (Vec::new(), 0);
    scan(text, |at, byte| {
        if byte == b',' {
            parts.push(&text[start..at]);
            start = at + 1;
        }
    });
    parts.push(&text[start..]);
    parts
}

/// Visits the ASCII bytes that stand in no brackets and no quotes.
fn scan(text: &str, mut visit: impl FnMut(usize, u8)) {
    let (mut depth, mut quote, mut is_escaped) = (0_usize, None, false);
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), b'\\') => is_escaped = true,
            (Some(mark), byte) if byte == mark => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'`' | b'"') => quote = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') => depth = depth.saturating_sub(1),
            (None, byte) if depth == 0 && byte.is_ascii() => visit(at, byte),
            (None, _) => {}
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types_are_read() {
        let check = |text: &str, kind: Type| assert_eq!(Type::parse(text).as_ref(), Ok(&kind), "{text}");
        check("Decimal(18, 3)", Type::Fixed(8));
        check("DateTime64(3, 'Europe/Berlin')", Type::Fixed(8));
        check("Enum8('a, b(' = 1, 'c\\'' = -2)", Type::Fixed(1));
        check("LowCardinality(Nullable(String))", Type::LowCardinality(Box::new(Type::Text)));
        check(
            "Tuple(a UInt8, `b c` Array(String))",
            Type::Tuple(vec![Type::Fixed(1), Type::Array(Box::new(Type::Text))]),
        );
        check("JSON(max_dynamic_paths=8, b UInt8, a String, SKIP x.y)", Type::Json(vec![Type::Text, Type::Fixed(1)]));
        check("AggregateFunction(uniq, UInt64)", Type::Opaque);
        check("SimpleAggregateFunction(sum, UInt64)", Type::Fixed(8));
        check(
            "Map(LowCardinality(String), UInt8)",
            Type::Array(Box::new(Type::Tuple(vec![Type::LowCardinality(Box::new(Type::Text)), Type::Fixed(1)]))),
        );
        for bad in ["Array(", "Array(UInt8, UInt8)", "FixedString(0)", "Decimal(99, 1)", &"Array(".repeat(1000)] {
            assert!(Type::parse(bad).is_err(), "{bad}");
        }
        assert!(Type::parse("Tuple(a AggregateFunction(uniq, UInt64))").expect("a type").is_opaque());
    }
}
