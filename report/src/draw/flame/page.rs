//! A flame graph as an HTML page: a field to search in, the drawing, and the heaviest functions.

use crate::companion::profile::{Flame, Node};
use crate::draw::html::{escape, table};
use std::collections::HashMap;

/// Functions in the table.
const ROWS: usize = 50;

const STYLE: &str = "body{font:14px/1.45 'DejaVu Sans',Verdana,sans-serif;color:#1b1f26;background:#fff;\
max-width:1400px;margin:0 auto;padding:12px 12px 40px}svg{width:100%;height:auto}h2{font-size:17px;margin:28px 0 6px}\
div.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px}th,td{padding:3px 9px;\
border-bottom:1px solid #e3e7ec;text-align:right;white-space:nowrap}th{color:#5f6873}\
th:first-child,td:first-child{text-align:left}input{font:inherit;width:28em;max-width:100%}\
@media (prefers-color-scheme:dark){body{color:#e8ebef;background:#14181d}th,td{border-color:#3a434f}th{color:#a3acb8}\
input{color:inherit;background:#232a33;border:1px solid #3a434f}}";

/// The page.
pub(in crate::draw) fn html(flame: &Flame, svg: &str) -> String {
    let title = escape(&format!("pingtrace {}", flame.title));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n\
         <input class=\"search\" type=\"search\" aria-label=\"Search\" placeholder=\"Search: a name or a regular expression\">\n\
         {svg}{}</body>\n</html>\n",
        functions(flame)
    )
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
