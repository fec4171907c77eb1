//! Curves as SVG files.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::{
    chart::ChartBuilder,
    coord::combinators::IntoLogRange as _,
    drawing::IntoDrawingArea as _,
    element::{Circle, EmptyElement, ErrorBar, PathElement},
    prelude::SVGBackend,
    series::{LineSeries, PointSeries},
    style::{BLACK, Color as _, Palette as _, Palette99, WHITE},
};

use crate::bench::curves::{Curves, Line};

/// Width and height in pixels.
const SIZE: (u32, u32) = (720, 360);

/// Writes a picture into a folder and says its file's name: `cost-by-services.svg`.
///
/// # Errors
/// If the file cannot be written.
pub fn draw(curves: &Curves, folder: &Path) -> Result<String> {
    let name = format!("cost-by-{}.svg", curves.against.replace(' ', "-"));
    let path = folder.join(&name);
    render(curves, &path).with_context(|| format!("{} could not be drawn", path.display()))?;
    Ok(name)
}

fn render(curves: &Curves, path: &Path) -> Result<()> {
    let figures = || curves.lines.iter().flat_map(|line| &line.points);
    let most = figures().map(|(_, row)| row.ratio + row.spread()).fold(1.0, f64::max);
    let last = figures().map(|(size, _)| *size).max().unwrap_or(1);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((1.0..last as f64 * 1.1).log_scale(), 0.0..most * 1.05)?;
    chart
        .configure_mesh()
        .x_desc(curves.against)
        .y_desc("cost, one-lookup NAT = 1")
        .x_label_formatter(&|size| format!("{size:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    for (number, line) in curves.lines.iter().enumerate() {
        let color = Palette99::pick(number);
        let points = || line.points.iter().map(|(size, row)| (*size as f64, row));
        chart
            .draw_series(LineSeries::new(points().map(|(x, row)| (x, row.ratio)), &color))?
            .label(label(line))
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], Palette99::pick(number)));
        let dots = points().map(|(x, row)| (x, row.ratio));
        chart.draw_series(PointSeries::of_element(dots, 3, &color, &|at, size, style| {
            EmptyElement::at(at) + Circle::new((0, 0), size, style.filled())
        }))?;
        let bars = points().map(|(x, row)| {
            let (least, most) = ((row.ratio - row.spread()).max(0.0), row.ratio + row.spread());
            ErrorBar::new_vertical(x, least, row.ratio, most, color.stroke_width(1), 6)
        });
        chart.draw_series(bars)?;
    }
    chart.configure_series_labels().border_style(BLACK.mix(0.3)).background_style(WHITE).draw()?;
    area.present()?;
    Ok(())
}

fn label(line: &Line) -> String {
    line.path.clone()
}
