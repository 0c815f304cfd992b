//! The rows with a floor, each as a bar in multiples of that.

use std::fmt::Write as _;

use crate::report::Report;

/// In pixels.
const WIDTH: f64 = 860.0;
const LABELS: f64 = 330.0;
const LINE: f64 = 26.0;
const MARGIN: f64 = 34.0;

/// An SVG with one bar a row.
pub(super) fn plot(report: &Report) -> String {
    let bars: Vec<(&str, f64, f64, &str)> = report
        .rows
        .iter()
        .filter_map(|row| {
            let floor = super::p50_of(report, row.floors.first()?)?;
            let p50 = row.summary()?.p50;
            (floor > 0.0).then_some((row.title.as_str(), p50 / floor, p50, row.unit.as_str()))
        })
        .collect();
    let most = bars.iter().map(|bar| bar.1).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS - 150.0) / most;
    let height = MARGIN * 2.0 + LINE * bars.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"20\" font-weight=\"bold\">p50 in multiples of its floor in the same run</text>\n"
    );
    for (place, (title, times, p50, unit)) in bars.iter().enumerate() {
        let y = MARGIN + LINE * place as f64;
        // Writing to a String can't fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{:.0}\" width=\"{:.1}\" height=\"16\" fill=\"#3a6ea5\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{times:.2} × ({p50:.1} {unit})</text>",
            LABELS - 8.0,
            y + 14.0,
            escaped(title),
            y + 2.0,
            times * scale,
            LABELS + times * scale + 6.0,
            y + 14.0,
        );
    }
    let one = LABELS + scale;
    let _ = writeln!(
        svg,
        "<line x1=\"{one:.1}\" y1=\"{}\" x2=\"{one:.1}\" y2=\"{:.0}\" stroke=\"#c33\" stroke-dasharray=\"4 3\"/>\n\
         <text x=\"{one:.1}\" y=\"{:.0}\" fill=\"#c33\" text-anchor=\"middle\">floor</text>\n</svg>",
        MARGIN - 4.0,
        height - MARGIN + 4.0,
        height - MARGIN + 20.0,
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
