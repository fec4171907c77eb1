//! Pictures of weights over time, as SVG.

use plotters::{
    chart::ChartBuilder,
    prelude::{IntoDrawingArea, LineSeries, PathElement, SVGBackend},
    style::{Color, RGBColor},
};

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 360);

/// Colours that are told apart by most eyes (Okabe and Ito, 2008).
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A line: its name, and from which second on it has which value, in percent.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Weights over time as steps, with a mark at each event.
///
/// # Errors
/// What could not be drawn.
pub(super) fn weights(title: &str, lines: &[Line], marks: &[f64], end: f64) -> Result<String, String> {
    let mut svg = String::new();
    draw(&mut svg, title, lines, marks, end).map_err(|error| format!("the picture cannot be drawn: {error}"))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    lines: &[Line],
    marks: &[f64],
    end: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let (unit, seconds) = unit(end);
    let end = (end / seconds).max(f64::MIN_POSITIVE);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&RGBColor(255, 255, 255))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..end, 0.0..105.0_f64)?;
    chart.configure_mesh().x_desc(unit).y_desc("% of new flows").light_line_style(RGBColor(235, 235, 235)).draw()?;
    for mark in marks {
        let at = mark / seconds;
        chart.draw_series([PathElement::new([(at, 0.0), (at, 105.0)], RGBColor(200, 0, 0).mix(0.5))])?;
    }
    for (line, color) in lines.iter().zip(COLORS.iter().cycle()) {
        let color = *color;
        let series = LineSeries::new(steps(&line.points, seconds, end), color.stroke_width(2));
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2));
        chart.draw_series(series)?.label(&line.name).legend(legend);
    }
    chart
        .configure_series_labels()
        .background_style(RGBColor(255, 255, 255).mix(0.8))
        .border_style(COLORS[6])
        .draw()?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(())
}

/// A value holds until the next.
fn steps(points: &[(f64, f64)], seconds: f64, end: f64) -> Vec<(f64, f64)> {
    let mut path: Vec<(f64, f64)> = Vec::new();
    for (at, value) in points {
        if let Some((_, before)) = path.last().copied() {
            path.push((at / seconds, before));
        }
        path.push((at / seconds, *value));
    }
    path.extend(path.last().map(|(_, value)| (end, *value)));
    path
}

/// The unit of the axis and its seconds.
fn unit(end: f64) -> (&'static str, f64) {
    match end {
        end if end > 3.0 * 86_400.0 => ("days", 86_400.0),
        end if end > 3.0 * 3_600.0 => ("hours", 3_600.0),
        end if end > 180.0 => ("minutes", 60.0),
        _ => ("seconds", 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_holds_until_the_next_and_to_the_end() {
        assert_eq!(steps(&[(0.0, 5.0), (60.0, 25.0)], 60.0, 3.0), [(0.0, 5.0), (1.0, 5.0), (1.0, 25.0), (3.0, 25.0)]);
    }

    #[test]
    fn every_line_is_drawn_and_named() {
        let line = |name: &str| Line { name: name.to_owned(), points: vec![(0.0, 5.0), (3_600.0, 100.0)] };
        let svg = weights("recsys-v2 & more", &[line("asia"), line("default")], &[1_800.0], 7_200.0).expect("drawn");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for said in ["asia", "default", "minutes", "recsys-v2 &amp; more", "% of new flows"] {
            assert!(svg.contains(said), "{said}");
        }
        assert!(svg.matches("<polyline").count() >= 3, "two lines and a mark");
    }
}
