//! A flame graph as an HTML page: a field to search in, the drawing, and the heaviest functions.

use crate::companion::profile::{Flame, Node};
use crate::draw::html::{drawing, escape, page, table};
use std::collections::HashMap;

/// Functions in the table.
const ROWS: usize = 50;

/// The page.
pub(in crate::draw) fn html(flame: &Flame, svg: &str) -> String {
    let search = "<input class=\"search\" type=\"search\" aria-label=\"Search\" \
                  placeholder=\"Search: a name or a regular expression\">\n";
    let content = [search, &drawing(svg), &functions(flame)].concat();
    page(&flame.title, &content)
}

/// The functions that themselves have the most weight.
fn functions(flame: &Flame) -> String {
    let mut weights = HashMap::new();
    add(&flame.root, &mut weights);
    let mut weights: Vec<(&str, u64)> = weights.into_iter().collect();
    weights.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let row = |(name, weight): &(&str, u64)| {
        let share = 100.0 * *weight as f64 / flame.root.value.max(1) as f64;
        vec![
            escape(name),
            escape(&flame.measure.text(*weight)),
            format!("{share:.2} %"),
        ]
    };
    let rows: Vec<_> = weights.iter().take(ROWS).map(row).collect();
    let head = ["function", "itself", "part"].map(str::to_owned);
    table("Functions by what they took themselves", &head, &rows)
}

fn add<'a>(node: &'a Node, weights: &mut HashMap<&'a str, u64>) {
    let below: u64 = node.children.iter().map(|child| child.value).sum();
    if node.value > below {
        *weights.entry(&node.name).or_default() += node.value - below;
    }
    for child in &node.children {
        add(child, weights);
    }
}
