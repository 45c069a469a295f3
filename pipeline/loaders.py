"""Raw rows of packaged data sets whose package does not give them as their schema has them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def california_housing() -> pd.DataFrame:
    """The published counts and dollars. scikit-learn gives counts by household, and dollars by the hundred thousand.

    Exact: the originals are whole numbers, and the quotients are some 1e-16 off. Raises `OSError` without a network.
    """
    from sklearn.datasets import fetch_california_housing

    with warnings.catch_warnings(action="ignore", category=UserWarning):  # scikit-learn's, that it tries again
        fetched = fetch_california_housing(as_frame=True, n_retries=1).frame
    households = (fetched["Population"] / fetched["AveOccup"]).round()
    columns = {
        "median_house_value": (fetched["MedHouseVal"] * 100_000).round(),
        "median_income": fetched["MedInc"],
        "housing_median_age": fetched["HouseAge"],
        "total_rooms": (fetched["AveRooms"] * households).round(),
        "total_bedrooms": (fetched["AveBedrms"] * households).round(),
        "population": fetched["Population"],
        "households": households,
        "latitude": fetched["Latitude"],
        "longitude": fetched["Longitude"],
    }
    return type(fetched)(columns)


def penguins_of_known_sex() -> pd.DataFrame:
    """A penguin whose sex nobody determined has no label to learn or to judge by."""
    from sklego.datasets import load_penguins

    birds: pd.DataFrame = load_penguins(as_frame=True)
    return birds[birds["sex"].notna()].reset_index(drop=True)
