"""What the parsers of office files share: packages, drawings, equations, styles and sheets."""
